//! Passwords: argon2id, stored as PHC strings.
//!
//! The numbers are OWASP's smallest recommended (Password Storage Cheat Sheet, 2024). Changing them
//! changes new hashes only: an old one is checked with the numbers it carries.

use std::sync::{Condvar, LazyLock, Mutex, PoisonError};
use std::time::Duration;

use argon2::password_hash::phc::{Output, ParamsString, PasswordHash, Salt};
use argon2::{Algorithm, Argon2, Block, Params, Version};
use pump_model::Password;
use pump_model::limits::MAX_PASSWORD;

use crate::error::Fault;

/// Memory for one hash, in KiB.
const MEMORY_KIB: u32 = 19 * 1024;

/// Passes over the memory.
const PASSES: u32 = 2;

/// Lanes. One: a worker has other requests for its other cores.
const LANES: u32 = 1;

/// Bytes of a hash.
const HASH_BYTES: usize = 32;

/// Bytes of a salt.
const SALT_BYTES: usize = 16;

/// Hashes at one time in one process. Anybody may try to sign in, and each try takes [`MEMORY_KIB`].
const MAX_AT_ONCE: usize = 2;

/// How long one waits for its turn.
const TURN_WITHIN: Duration = Duration::from_secs(10);

/// Most memory that a stored hash may ask for, in KiB, so that a damaged row cannot take all there is.
const MAX_MEMORY_KIB: u32 = 256 * 1024;

/// Bytes above which glibc gives memory back to the system as soon as it is freed, always
/// (`DEFAULT_MMAP_THRESHOLD_MAX`, 32 MiB on 64 bits; below, it learns to keep what was asked for
/// once). Pages that are reserved and not touched cost nothing, and without this an idle worker stays
/// 19 MiB larger for ever after its first sign-in.
const RETURNED_ABOVE: usize = 32 * 1024 * 1024 + Block::SIZE;

/// Turns at hashing.
struct Turns {
    taken: Mutex<usize>,
    given_back: Condvar,
}

static TURNS: Turns = Turns { taken: Mutex::new(0), given_back: Condvar::new() };

/// One turn, until it is dropped.
struct Turn;

impl Turn {
    /// Nothing when it would take too long.
    fn wait() -> Option<Self> {
        let taken = TURNS.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut taken, _) = TURNS
            .given_back
            .wait_timeout_while(taken, TURN_WITHIN, |taken| *taken >= MAX_AT_ONCE)
            .unwrap_or_else(PoisonError::into_inner);
        if *taken >= MAX_AT_ONCE {
            return None;
        }
        *taken += 1;
        Some(Self)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        *TURNS.taken.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        TURNS.given_back.notify_one();
    }
}

fn todays() -> Params {
    Params::new(MEMORY_KIB, PASSES, LANES, Some(HASH_BYTES)).expect("the numbers above are allowed")
}

/// Whose hash an unknown name is compared with: of a password that nobody has.
static NOBODY: LazyLock<PasswordHash> = LazyLock::new(|| PasswordHash {
    algorithm: Algorithm::Argon2id.ident(),
    version: Some(Version::V0x13.into()),
    params: ParamsString::try_from(&todays()).expect("the numbers above can be written"),
    salt: Some(Salt::new(&[0; SALT_BYTES]).expect("the length is allowed")),
    hash: Some(Output::new(&[0; HASH_BYTES]).expect("the length is allowed")),
});

/// The PHC string of a password.
pub(crate) fn hash(password: &Password) -> Result<String, Fault> {
    let mut salt = [0; SALT_BYTES];
    getrandom::fill(&mut salt)?;
    let salt = Salt::new(&salt).expect("the length is allowed");
    let hash = compute(password.as_str(), &salt, todays())?;
    Ok(PasswordHash { salt: Some(salt), hash: Some(hash), ..NOBODY.clone() }.to_string())
}

/// Whether a password is the one that `stored` was made of. Without one stored, works as long and says
/// no. A password longer than any can be is refused without work.
pub(crate) fn verify(password: &str, stored: Option<&str>) -> Result<bool, Fault> {
    if password.len() > MAX_PASSWORD {
        return Ok(false);
    }
    let parsed = match stored {
        Some(stored) => Some(PasswordHash::new(stored).map_err(|_| damaged())?),
        None => None,
    };
    let against = parsed.as_ref().unwrap_or(&NOBODY);
    let (Some(salt), Some(expected)) = (&against.salt, &against.hash) else {
        return Err(damaged());
    };
    if against.algorithm != Algorithm::Argon2id.ident() {
        return Err(damaged());
    }
    let params = Params::try_from(against).map_err(|_| damaged())?;
    if params.m_cost() > MAX_MEMORY_KIB {
        return Err(damaged());
    }
    // Outputs are compared in constant time; see `Output`.
    let same = compute(password, salt, params)? == *expected;
    Ok(same && parsed.is_some())
}

fn compute(password: &str, salt: &Salt, params: Params) -> Result<Output, Fault> {
    let Some(_turn) = Turn::wait() else {
        return Err(Fault::Busy);
    };
    let mut memory = Vec::with_capacity(params.block_count().max(RETURNED_ABOVE / Block::SIZE));
    memory.resize(params.block_count(), Block::new());
    let mut out = vec![0; params.output_len().unwrap_or(HASH_BYTES)];
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into_with_memory(password.as_bytes(), salt, &mut out, &mut memory)
        .map_err(|_| damaged())?;
    Output::new(&out).map_err(|_| damaged())
}

fn damaged() -> Fault {
    Fault::Damaged("a stored password hash is damaged")
}
