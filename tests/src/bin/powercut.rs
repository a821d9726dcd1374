//! Cuts the power of a guest that appends to a log, over and over, and checks what its disk holds then.
//!
//! `PYRO_POWERCUT_WRITER` names a static build of the store's example; `PYRO_POWERCUT_ROUNDS` and `PYRO_POWERCUT_SEED`
//! choose how much and which.

#![expect(clippy::print_stdout, reason = "it prints its progress")]

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Instant, UNIX_EPOCH};

use pyro_tests::powercut::Cuts;

/// Rounds when nothing else is asked for.
const ROUNDS: u64 = 30;

fn main() -> ExitCode {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let rounds = number("PYRO_POWERCUT_ROUNDS").unwrap_or(ROUNDS);
    let seed =
        number("PYRO_POWERCUT_SEED").unwrap_or_else(|| UNIX_EPOCH.elapsed().map_or(0, |time| time.as_secs()));
    let writer =
        PathBuf::from(std::env::var_os("PYRO_POWERCUT_WRITER").expect("`make powercut` names the writer"));
    println!("seed {seed}, {rounds} rounds");
    let begun = Instant::now();
    let result = Cuts::new(&writer, seed).and_then(|mut cuts| {
        for number in 1..=rounds {
            let round = cuts.round()?;
            println!(
                "round {number}: groups of up to {}, {} acknowledged; {}; index damaged: {}",
                round.group, round.acked, round.found, round.found_without_index
            );
        }
        Ok(())
    });
    match result {
        Ok(()) => {
            println!(
                "{rounds} power cuts in {} s: everything acknowledged is there",
                begun.elapsed().as_secs()
            );
            ExitCode::SUCCESS
        }
        Err(error) => {
            println!("violation: {error}\nagain: PYRO_POWERCUT_SEED={seed} make powercut");
            ExitCode::FAILURE
        }
    }
}
