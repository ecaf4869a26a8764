//! What a release is, as a package of rpm provides it: `pumpd(magic) = 2`.
//!
//! A repository's index has what packages provide, so the gates can be asked before a package is fetched.
//! `packaging/rpm/pump.spec` has rpm call [`provides`] for the `RELEASE.json` that it packs. Names and values
//! are as rpm wants them (rpm-dependencies(7)): a version has `~` for `-`.

use pump_release::{ReleaseInfo, Schema};

/// A line for each thing that a release says of itself.
pub(crate) fn provides(release: &ReleaseInfo) -> String {
    let mut lines = vec![
        ("version", release.version.to_string().replace('-', "~")),
        ("build", release.build.to_string()),
        ("magic", release.magic.to_string()),
        ("unit", release.unit.to_string()),
        ("schema", release.schema.version.to_string()),
        ("schema-compat", release.schema.compat.to_string()),
    ];
    lines.extend(release.accepts.iter().map(|magic| ("accepts", magic.to_string())));
    lines.into_iter().map(|(name, value)| format!("pumpd({name}) = {value}\n")).collect()
}

/// The release that provides this, among whatever else. None where it does not say all of it: an older package.
pub(super) fn release_of(text: &str) -> Option<ReleaseInfo> {
    let said = |wanted: &'static str| {
        text.lines().filter_map(move |line| {
            let (name, value) = line.trim().strip_prefix("pumpd(")?.split_once(") = ")?;
            (name == wanted).then_some(value)
        })
    };
    let one = |wanted: &'static str| said(wanted).next();
    let number = |wanted: &'static str| one(wanted)?.parse().ok();
    let accepts: Result<Vec<u32>, _> = said("accepts").map(str::parse).collect();
    Some(ReleaseInfo {
        version: one("version")?.replace('~', "-").parse().ok()?,
        build: one("build")?.parse().ok()?,
        magic: number("magic")?,
        // What cannot be read accepts nothing: who is in doubt asks.
        accepts: accepts.unwrap_or_default(),
        unit: number("unit")?,
        schema: Schema { version: number("schema")?, compat: number("schema-compat")? },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_package_provides_is_the_release_again() {
        let release = ReleaseInfo {
            version: "1.2.0-beta.1".parse().expect("a version"),
            build: "ab".repeat(32).parse().expect("a hash"),
            magic: 4,
            accepts: vec![2, 3],
            unit: 2,
            schema: Schema { version: 12, compat: 10 },
        };
        let text = format!("config(pumpd) = 1-1\n{}pumpd = 1-1\n", provides(&release));
        assert_eq!(release_of(&text), Some(release));
        assert_eq!(release_of(&text.replace("pumpd(magic)", "other(magic)")), None);
        assert_eq!(release_of("pumpd = 1-1\npumpd(x86-64) = 1-1\n"), None);
    }
}
