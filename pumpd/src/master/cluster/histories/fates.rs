//! What is drawn: the fates of processes, the candidates, the requests, and when a master is replaced.

use proptest::prelude::*;

/// What a process that was started will do. Times are in milliseconds.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fate {
    /// Ready after so long; serves; drains within so long when asked.
    Good { ready: u64, drain: u64 },
    /// Good, and while it drains an upload makes progress every so often.
    Uploads { ready: u64, drain: u64, every: u64 },
    /// Ready, then dies so much later.
    DiesLater { ready: u64, dies: u64 },
    /// Dies before it is ready.
    DiesAtOnce { dies: u64 },
    /// Says that it cannot serve.
    Refuses { after: u64 },
    /// Says twice that it is ready.
    Lies { ready: u64, again: u64 },
    /// Ready, then leaves without having been asked to.
    Leaves { ready: u64, after: u64 },
    /// Never says anything, and ends only when killed.
    Hangs,
    /// Ready; never drains; is not even ended by SIGKILL.
    Stuck { ready: u64 },
}

impl Fate {
    pub(super) fn is_good(self) -> bool {
        matches!(self, Self::Good { .. } | Self::Uploads { .. })
    }
}

/// What a canary comes to.
#[derive(Clone, Copy, Debug)]
pub(super) enum Verdict {
    Passes,
    /// Worse, after so many milliseconds.
    Fails(u64),
    /// Nothing is ever heard.
    Never,
}

/// What a candidate is like. An answer that is none never comes.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    pub(super) inspect: Option<bool>,
    pub(super) prepare: Option<bool>,
    pub(super) rehearse: Option<bool>,
    pub(super) verdict: Verdict,
    pub(super) replace: Option<bool>,
    pub(super) key: u8,
    pub(super) master: bool,
    pub(super) workers: usize,
    /// Seconds.
    pub(super) canary: u64,
    pub(super) parallel: usize,
    pub(super) fates: Vec<Fate>,
}

#[derive(Clone, Debug)]
pub(super) struct Ask {
    pub(super) after: u64,
    pub(super) by_signal: bool,
    pub(super) clear_latch: bool,
    pub(super) candidate: Candidate,
}

#[derive(Clone, Debug)]
pub(super) struct History {
    pub(super) workers: usize,
    pub(super) dice: u64,
    pub(super) first: Vec<Fate>,
    pub(super) asks: Vec<Ask>,
    pub(super) stop_after: Option<u64>,
}

pub(super) fn good() -> impl Strategy<Value = Fate> {
    prop_oneof![
        3 => (1u64..500, 1u64..40_000).prop_map(|(ready, drain)| Fate::Good { ready, drain }),
        1 => (1u64..500, 1u64..900_000, 1_000u64..29_000)
            .prop_map(|(ready, drain, every)| Fate::Uploads { ready, drain, every }),
    ]
}

pub(super) fn fate(good_ones: u32) -> impl Strategy<Value = Fate> {
    let ready = || 1u64..25_000;
    prop_oneof![
        good_ones => good(),
        1 => (1u64..500, 1u64..99_000, 20_000u64..70_000)
            .prop_map(|(ready, drain, every)| Fate::Uploads { ready, drain, every }),
        1 => (ready(), 1u64..60_000).prop_map(|(ready, dies)| Fate::DiesLater { ready, dies }),
        1 => (1u64..1000).prop_map(|dies| Fate::DiesAtOnce { dies }),
        1 => (1u64..1000).prop_map(|after| Fate::Refuses { after }),
        1 => (ready(), 1u64..60_000).prop_map(|(ready, again)| Fate::Lies { ready, again }),
        1 => (ready(), 1u64..60_000).prop_map(|(ready, after)| Fate::Leaves { ready, after }),
        1 => Just(Fate::Hangs),
        1 => ready().prop_map(|ready| Fate::Stuck { ready }),
    ]
}

pub(super) fn candidate(
    fate: impl Strategy<Value = Fate>,
    bad: u32,
) -> impl Strategy<Value = Candidate> {
    let answer =
        move || prop_oneof![16 => Just(Some(true)), bad => Just(Some(false)), bad => Just(None)];
    let verdict = prop_oneof![
        16 => Just(Verdict::Passes),
        bad => (0u64..30_000).prop_map(Verdict::Fails),
        bad => Just(Verdict::Never),
    ];
    let canary = prop_oneof![1 => Just(0), 1 => 1u64..20];
    let shape = (0u8..4, any::<bool>(), 1usize..5, canary, 1usize..4);
    ((answer(), answer(), answer(), answer()), verdict, shape, prop::collection::vec(fate, 1..6))
        .prop_map(|((inspect, prepare, rehearse, replace), verdict, shape, fates)| {
            let (key, master, workers, canary, parallel) = shape;
            Candidate {
                inspect,
                prepare,
                rehearse,
                verdict,
                replace,
                key,
                master,
                workers,
                canary,
                parallel,
                fates,
            }
        })
}

pub(super) fn history(
    first: impl Strategy<Value = Fate>,
    candidate: impl Strategy<Value = Candidate>,
) -> impl Strategy<Value = History> {
    let clear = prop_oneof![3 => Just(false), 1 => Just(true)];
    let ask = (0u64..90_000, any::<bool>(), clear, candidate).prop_map(
        |(after, by_signal, clear_latch, candidate)| Ask {
            after,
            by_signal,
            clear_latch: clear_latch && !by_signal,
            candidate,
        },
    );
    (
        1usize..5,
        any::<u64>(),
        prop::collection::vec(first, 1..6),
        prop::collection::vec(ask, 0..6),
        prop::option::of(0u64..300_000),
    )
        .prop_map(|(workers, dice, first, asks, stop_after)| History {
            workers,
            dice,
            first,
            asks,
            stop_after,
        })
}
