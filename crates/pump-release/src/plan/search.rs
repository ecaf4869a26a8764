//! The releases between what runs and what is wanted, and the shortest way over them.
//!
//! Breadth first, a layer for each number of hops. A place is a release and the database as it is then:
//! the same release reached with another database has other ways on. Hops lead in one direction only, so
//! no way comes to a release twice. Where schemas rise with versions, as they do, each release has one place.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use semver::Version;

use super::{Blocked, Gait, Hop, Standing, gait};
use crate::index::same;
use crate::{Artifact, Index, Release, ReleaseInfo, Schema};

/// A release on the road.
pub(super) struct Stop<'a> {
    pub(super) release: &'a Release,
    /// Its bundle for this machine and what is in it, unless it may not be gone to.
    pub(super) open: Option<(&'a Artifact, ReleaseInfo)>,
}

/// The releases between what runs and what is wanted.
pub(super) struct Road<'a> {
    pub(super) start: Standing,
    /// In the order in which they can be gone over; the last one is wanted.
    pub(super) stops: Vec<Stop<'a>>,
    up: bool,
    zero_downtime: bool,
}

/// Somewhere on the road, with the database as it is then. `None` is the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) stop: Option<usize>,
    pub(super) database: Schema,
}

type Key = (usize, u32, u32);

/// A way to a place. Ordered: the better one is less.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Cost {
    waits: usize,
    /// How many releases of the road are newer, for each hop.
    newer: Vec<usize>,
}

/// A place, what the best way to it costs, and that way.
type Reached = (Place, Cost, Vec<(usize, Gait)>);

impl<'a> Road<'a> {
    pub(super) fn new(
        index: &'a Index,
        start: &Standing,
        wanted: &Version,
        target: &str,
        zero_downtime: bool,
    ) -> Self {
        let from = &start.workers.version;
        let direction = wanted.cmp_precedence(from);
        let mut between: Vec<&Release> = index
            .releases
            .iter()
            .filter(|it| {
                same(&it.version, wanted)
                    || it.version.cmp_precedence(from) == direction
                        && it.version.cmp_precedence(wanted) == direction.reverse()
            })
            .collect();
        between.sort_by(|a, b| a.version.cmp_precedence(&b.version));
        if direction == Ordering::Less {
            between.reverse();
        }
        let stops = between.into_iter().map(|release| {
            let artifact = release.artifact(target).filter(|_| release.rules.withdrawn().is_none());
            Stop { release, open: artifact.map(|it| (it, release.info(it))) }
        });
        let (stops, up) = (stops.collect(), direction == Ordering::Greater);
        Self { start: start.clone(), stops, up, zero_downtime }
    }

    /// Whether the last stop is this release, and it may be gone to.
    pub(super) fn ends_at(&self, wanted: &Release) -> bool {
        self.stops
            .last()
            .is_some_and(|it| it.open.is_some() && same(&it.release.version, &wanted.version))
    }

    pub(super) fn origin(&self) -> Place {
        Place { stop: None, database: self.start.database }
    }

    /// What runs when a place was reached.
    pub(super) fn standing(&self, place: Place) -> Standing {
        let reached = place.stop.and_then(|at| self.stops[at].open.as_ref());
        match reached {
            Some((_, info)) => Standing {
                database: place.database,
                ..Standing::running(info.clone(), info.clone())
            },
            None => self.start.clone(),
        }
    }

    /// The places that are one hop ahead of `standing`, which is `place`'s, each with how it is gone
    /// to or what is in the way.
    pub(super) fn ahead(
        &self,
        place: Place,
        standing: &Standing,
    ) -> impl Iterator<Item = (usize, &ReleaseInfo, Result<Gait, Blocked>)> {
        let first = place.stop.map_or(0, |at| at + 1);
        let mut barrier = None;
        (first..self.stops.len()).filter_map(move |to| {
            let before = barrier;
            if self.up && self.stops[to].release.rules.barrier && barrier.is_none() {
                barrier = Some(to);
            }
            let (_, info) = self.stops[to].open.as_ref()?;
            Some((to, info, self.hop(standing, to, info, before)))
        })
    }

    fn hop(
        &self,
        standing: &Standing,
        to: usize,
        info: &ReleaseInfo,
        barrier: Option<usize>,
    ) -> Result<Gait, Blocked> {
        // It was gone to already, and only the links are behind.
        if standing.runs && standing.workers.build == info.build {
            return Ok(Gait::Links);
        }
        if let Some(barrier) = barrier {
            let release = self.stops[barrier].release;
            let open = self.stops[barrier].open.is_some();
            let why = release.rules.withdrawn();
            return Err(Blocked::Barrier { version: release.version.clone(), open, why });
        }
        if let Some(wanted) = &self.stops[to].release.rules.upgrade_from
            && self.up
            && !wanted.matches(&standing.workers.version)
        {
            return Err(Blocked::From(wanted.clone()));
        }
        match gait(standing, info)? {
            Gait::ConnectionsWait(reason) if self.zero_downtime => Err(Blocked::Waits(reason)),
            gait => Ok(gait),
        }
    }

    /// The best way to the wanted release, of so many hops at most.
    pub(super) fn shortest(&self, most: usize) -> Option<Vec<Hop<'a>>> {
        let wanted = self.stops.len().checked_sub(1)?;
        let mut seen: BTreeSet<Key> = BTreeSet::new();
        let none = Cost { waits: 0, newer: Vec::new() };
        let mut layer: Vec<Reached> = vec![(self.origin(), none, Vec::new())];
        for _ in 0..most {
            let mut next: BTreeMap<Key, Reached> = BTreeMap::new();
            for (place, cost, path) in &layer {
                let standing = self.standing(*place);
                for (to, info, gait) in self.ahead(*place, &standing) {
                    let Ok(gait) = gait else { continue };
                    let database = standing.after(info);
                    let key = (to, database.version, database.compat);
                    if seen.contains(&key) {
                        continue;
                    }
                    let mut cost = cost.clone();
                    cost.waits += usize::from(gait.waits());
                    cost.newer.push(if self.up { wanted - to } else { to });
                    if next.get(&key).is_some_and(|(_, known, _)| *known <= cost) {
                        continue;
                    }
                    let mut path = path.clone();
                    path.push((to, gait));
                    next.insert(key, (Place { stop: Some(to), database }, cost, path));
                }
            }
            let there = next.values().filter(|(place, ..)| place.stop == Some(wanted));
            if let Some((_, _, path)) = there.min_by(|(_, a, _), (_, b, _)| a.cmp(b)) {
                return Some(self.hops(path));
            }
            seen.extend(next.keys());
            layer = next.into_values().collect();
        }
        None
    }

    fn hops(&self, path: &[(usize, Gait)]) -> Vec<Hop<'a>> {
        let hop = |(to, gait): &(usize, Gait)| {
            let (artifact, info) = self.stops[*to].open.as_ref()?;
            Some(Hop { to: info.clone(), artifact, gait: *gait })
        };
        path.iter().filter_map(hop).collect()
    }

    /// Every release that can be reached in any number of hops, with the fewest hops to it. The first
    /// place is the start.
    pub(super) fn reached(&self) -> Vec<(Place, usize)> {
        let mut seen: BTreeSet<Key> = BTreeSet::new();
        let mut reached = vec![(self.origin(), 0)];
        let mut at = 0;
        while let Some(&(place, hops)) = reached.get(at) {
            let standing = self.standing(place);
            for (to, info, gait) in self.ahead(place, &standing) {
                let database = standing.after(info);
                if gait.is_ok() && seen.insert((to, database.version, database.compat)) {
                    reached.push((Place { stop: Some(to), database }, hops + 1));
                }
            }
            at += 1;
        }
        reached
    }

    /// For each release, the fewest hops from it to the wanted one, if there is a way when the database
    /// is as that release leaves it.
    pub(super) fn leads_on(&self) -> Vec<Option<usize>> {
        let mut hops = vec![None; self.stops.len()];
        for at in (0..self.stops.len()).rev() {
            let Some((_, info)) = &self.stops[at].open else { continue };
            if at + 1 == self.stops.len() {
                hops[at] = Some(0);
                continue;
            }
            let place = Place { stop: Some(at), database: info.schema };
            let standing = self.standing(place);
            let on = self.ahead(place, &standing).filter(|(.., gait)| gait.is_ok());
            hops[at] = on.filter_map(|(to, ..)| hops[to]).min().map(|it| it + 1);
        }
        hops
    }
}
