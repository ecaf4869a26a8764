//! What a candidate needs of the master before any worker of it is started: its addresses.

use std::io::ErrorKind;

use pump_control::{Checked, ExitStatus};

use super::Master;
use super::cluster::NotAllowed;
use super::listen::ListenError;

impl Master {
    /// Listens where the candidate wants to be found. Nothing has changed when that is not allowed; what
    /// turns out not to be needed is let go of with the candidate.
    pub(super) fn prepare_place(&mut self, wanted: &Checked) -> Result<(), NotAllowed> {
        let not_allowed = |exit, text: String, hint: &str| {
            Err(NotAllowed { exit, text, hint: Some(hint.to_owned()) })
        };
        let mut addresses = Vec::new();
        for address in &wanted.listen {
            let Ok(address) = address.parse() else {
                let text = format!("this master does not know how to listen on `{address}`");
                return not_allowed(ExitStatus::Preflight, text, "`pump stop`, then `pump start`");
            };
            addresses.push(address);
        }
        let Err(error) = self.listeners.add(&addresses) else { return Ok(()) };
        let exit = match &error {
            ListenError::InUse { .. } => ExitStatus::AddressInUse,
            ListenError::Other { .. } => ExitStatus::Preflight,
        };
        let hint = match &error {
            ListenError::InUse { .. } => "`ss -ltnp` shows by whom",
            ListenError::Other { source, .. } if source.kind() == ErrorKind::PermissionDenied => {
                "systemd has to listen there: `pump install`, then restart the service once"
            }
            ListenError::Other { .. } => "mend `listen` in the configuration",
        };
        not_allowed(exit, format!("{:#}", anyhow::Error::new(error)), hint)
    }
}
