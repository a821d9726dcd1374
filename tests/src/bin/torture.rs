//! Tortures pyro: kills its daemon over and over under clients that work, and checks what it promised.
//!
//! `PYRO_TORTURE_KILLS` and `PYRO_TORTURE_SEED` choose how much and which; `PYRO_TORTURE_GUESTS=qemu` takes virtual
//! machines.

#![expect(clippy::print_stdout, reason = "it prints its progress and a table")]

use std::process::ExitCode;
use std::time::UNIX_EPOCH;

use pyro_tests::torture::{Guests, Settings, run};

/// Kills when nothing else is asked for.
const KILLS: u64 = 500;

fn main() -> ExitCode {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let time = || UNIX_EPOCH.elapsed().map_or(0, |time| time.as_secs());
    let kills = number("PYRO_TORTURE_KILLS").unwrap_or(KILLS);
    let guests = std::env::var("PYRO_TORTURE_GUESTS").unwrap_or_default();
    let settings = Settings {
        kills: u32::try_from(kills).expect("that many kills take for ever"),
        seed: number("PYRO_TORTURE_SEED").unwrap_or_else(time),
        clients: number("PYRO_TORTURE_CLIENTS").unwrap_or(5),
        guests: if guests == "qemu" { Guests::Qemu } else { Guests::Sandbox },
    };
    println!("seed {}, {} kills, {} clients", settings.seed, settings.kills, settings.clients);
    let report = run(&settings, &mut |deeds, history| {
        let (answers, violations) = history.counts();
        println!("kill {}: {answers} answers, {violations} violations", deeds.kills);
    });
    print!("{report}");
    if report.violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
