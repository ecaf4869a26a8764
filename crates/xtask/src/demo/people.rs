//! Who lives on the demo's server: alice and bob, who are for the visitor; `press`, whose long notes
//! make big pages; and the clients' own authors with `listener`, who follows them and reads it all.

use std::time::Duration;

use pump_test::load::{Mix, Plan};
use pump_test::wire::Address;
use pump_test::{Account, Api};

use super::place::Place;

/// Everybody's password.
pub(super) const PASSWORD: &str = "zero downtime, please";

/// Long notes of `press`: at least a page of its outbox.
const LONG_NOTES: usize = 20;

/// Who posts under load.
const AUTHORS: [&str; 2] = ["load_one", "load_two"];

pub(super) struct People {
    pub(super) api: Api,
    pub(super) listener: Account,
    authors: Vec<Account>,
}

impl People {
    /// Makes everybody, and lets them post and follow.
    pub(super) fn settle(place: &Place, listen: &str) -> anyhow::Result<Self> {
        let address: Address = listen.parse()?;
        let api = Api::new(address, place.status()?.public_url);
        let join = |name: &str| -> anyhow::Result<Account> {
            place.account(name, PASSWORD)?;
            api.sign_in(name, PASSWORD)
        };
        let (alice, bob) = (join("alice")?, join("bob")?);
        api.follow(&alice, "bob")?;
        api.follow(&bob, "alice")?;
        api.post(&alice, "Hello! I post something and my followers see it.")?;
        api.post(&bob, "I see it, *Alice*. Is the server being upgraded?")?;
        api.post(&alice, "Yes, right now. **Nobody notices.**")?;

        let press = join("press")?;
        for number in 1..=LONG_NOTES {
            let line = format!("Long note {number} of a patient printer. ");
            api.post(&press, &line.repeat(4_500 / line.len()))?;
        }
        let listener = join("listener")?;
        let mut authors = Vec::new();
        for name in AUTHORS {
            authors.push(join(name)?);
            api.follow(&listener, name)?;
        }
        Ok(Self { api, listener, authors })
    }

    /// What the clients do.
    pub(super) fn plan(&self, lasts: Duration) -> Plan {
        let mut plan = Plan::new(self.api.address().clone(), self.api.host());
        plan.mix = Mix::USUAL;
        plan.lasts = lasts;
        plan.pages = ["/", "/@alice", "/users/alice/outbox?page=true", "/nodeinfo/2.1", "/healthz"]
            .map(str::to_owned)
            .to_vec();
        plan.big_page = "/users/press/outbox?page=true".to_owned();
        plan.read_per_second = 40 * 1024;
        plan.authors = self.authors.clone();
        plan
    }
}
