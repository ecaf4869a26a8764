//! What a machine can run out of, in the words of whoever has to make room.
//!
//! errno says that something could not be had; which limit that was is known only together with what was
//! tried. Here it is starting processes and opening files, so `EAGAIN` is a limit on processes (fork(2))
//! and `EMFILE` one on descriptors (open(2)).

use std::io;

use rustix::io::Errno;

/// What has run out, if that is why a call failed.
pub(crate) fn what(error: &io::Error) -> Option<&'static str> {
    let errno = Errno::from_io_error(error)?;
    Some(match errno {
        Errno::MFILE => "there are no more descriptors for this process (`LimitNOFILE=`)",
        Errno::NFILE => "there are no more descriptors on this machine (`fs.file-max`)",
        Errno::AGAIN => "there are no more processes and threads (`TasksMax=`, `LimitNPROC=`)",
        Errno::NOMEM => "there is no more memory",
        Errno::NOSPC => "the disk is full",
        Errno::DQUOT => "the disk quota is used up",
        _ => return None,
    })
}

/// The error, with what has run out where that is the reason.
pub(crate) fn told(error: &io::Error) -> String {
    what(error).map_or_else(|| error.to_string(), |what| format!("{what}: {error}"))
}

/// Whether something that has run out is in the chain of an error.
pub(crate) fn is_why(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let by_system = cause.downcast_ref::<io::Error>().is_some_and(|one| what(one).is_some());
        let by_store = cause.downcast_ref::<pump_store::Error>();
        by_system || by_store.is_some_and(pump_store::Error::is_for_want_of_room)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ran_out_is_named_and_nothing_else_is_taken_for_it() {
        let check = |errno: Errno, want: &str| {
            let told = told(&errno.into());
            assert!(told.contains(want), "{told}");
            assert_eq!(what(&errno.into()).is_some(), !want.is_empty(), "{errno:?}");
        };
        check(Errno::MFILE, "LimitNOFILE");
        check(Errno::AGAIN, "TasksMax");
        check(Errno::NOMEM, "memory");
        check(Errno::NOSPC, "the disk is full");
        check(Errno::NOENT, "");
        assert_eq!(what(&io::Error::other("no number")), None);
        let deep = anyhow::Error::from(io::Error::from(Errno::MFILE)).context("opening something");
        assert!(is_why(&deep));
        assert!(!is_why(&anyhow::anyhow!("it is broken")));
    }
}
