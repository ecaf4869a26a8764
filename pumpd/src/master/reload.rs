//! Reading the configuration again, and saying what changed. It takes effect with the next roll.

use pump_control::control::Reloaded;
use tracing::{error, info, warn};

use super::Master;
use super::cluster::GenerationId;
use crate::config::{Address, Config};

/// Ports below this one are for root, unless the machine says otherwise
/// (`net.ipv4.ip_unprivileged_port_start`, ip(7)).
const PRIVILEGED_BELOW: u16 = 1024;

impl Master {
    /// Reads the configuration again and says what changed. It takes effect with the next roll.
    pub(super) fn reload(&self) -> Reloaded {
        let pinned = self.cluster.as_ref().map_or(GenerationId(1), |cluster| cluster.pinned());
        let running = self.generations.get(&pinned).map(|generation| generation.config.as_str());
        let path = &self.setting.config_path;
        let running = running.and_then(|text| Config::parse(text, path).ok());
        let reloaded = match (Config::read(path), running) {
            (Err(error), _) => {
                let text = format!("{:#}", anyhow::Error::new(error));
                error!("the configuration is wrong, and the running one stays: {text}");
                Reloaded { error: Some(text), ..Reloaded::default() }
            }
            (Ok((new, _)), Some(running)) => {
                let (mut needs_roll, mut needs_restart) = running.changes(&new);
                if self.cannot_listen(&new) {
                    needs_roll.retain(|key| key != "listen");
                    needs_restart.push("listen".to_owned());
                }
                Reloaded { needs_roll, needs_restart, error: None }
            }
            (Ok(_), None) => Reloaded::default(),
        };
        match (&reloaded.needs_roll[..], &reloaded.needs_restart[..]) {
            ([], []) if reloaded.error.is_none() => info!("the configuration is as it was"),
            (roll, restart) => {
                for key in roll {
                    info!("`{key}` changed: `pump restart` makes it take effect");
                }
                for key in restart {
                    warn!("`{key}` changed: `pump stop` and `pump start` make it take effect");
                }
            }
        }
        reloaded
    }

    /// Whether there is an address that only systemd could listen on, and does not yet.
    fn cannot_listen(&self, new: &Config) -> bool {
        let privileged = |address: &&Address| match address {
            Address::Tcp(address) => address.port() != 0 && address.port() < privileged_below(),
            Address::Unix(_) => false,
        };
        let listens =
            |address: &Address| !self.listeners.of(std::slice::from_ref(address)).is_empty();
        !rustix::process::geteuid().is_root()
            && new.listen.iter().filter(privileged).any(|address| !listens(address))
    }
}

fn privileged_below() -> u16 {
    let said = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start");
    said.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(PRIVILEGED_BELOW)
}
