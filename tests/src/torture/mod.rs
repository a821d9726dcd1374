//! Torture: clients that work, a nemesis that kills, and a checker that believes neither.
//!
//! ```text
//! clients ------ pyro ... ------> daemon <------ SIGKILL ------ nemesis
//!    |                              |                              |
//!    | what they were told          | log export, log verify       | recoveries
//!    +-----------------------> checker <---------------------------+
//!                                   ^ what the guests hold
//! ```
//!
//! Everything goes through the real program. The checker knows the words of the contract and nothing of pyro's code: it
//! compares what clients were told, what the exported log says, and what the guests hold in the end.

mod call;
mod chance;
mod checker;
mod client;
mod daemon;
mod ending;
mod history;
mod ledger;
mod nemesis;
mod payload;
mod report;

use std::sync::Mutex;

pub use chance::Chance;
pub use checker::check;
pub use history::{Answer, Change, History, Operation, Pulse, Told, Violation};
pub use nemesis::Deeds;
pub use payload::{Payload, Received};
pub use report::Report;

use client::{Client, World};
use nemesis::Nemesis;

use crate::{Pyro, QEMU, SANDBOX};

/// Workspaces that there are when the first kill comes.
const WORKSPACES: usize = 4;

/// What runs the guests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guests {
    /// Namespaces of this host: fast.
    Sandbox,
    /// QEMU. Its guests are not killed: what their kernels had not written is not promised to anybody.
    Qemu,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How many daemons are killed.
    pub kills: u32,
    /// What all chance comes from.
    pub seed: u64,
    /// How many clients work at the same time.
    pub clients: u64,
    /// What runs the guests.
    pub guests: Guests,
}

/// Does it, telling of each kill, and returns what came of it.
pub fn run(settings: &Settings, tell: &mut dyn FnMut(&Deeds, &History)) -> Report {
    let (config, options): (_, &[_]) = match settings.guests {
        Guests::Sandbox => (SANDBOX, &["--allow-host-compat"]),
        Guests::Qemu => (QEMU, &[]),
    };
    let begun = std::time::Instant::now();
    let pyro = Pyro::new().config(config);
    let history = History::default();
    let scratch = tempfile::tempdir().expect("a temporary directory can be made");
    let world = World {
        pyro: &pyro,
        history: &history,
        options,
        scratch: scratch.path(),
        workspaces: Mutex::default(),
    };
    let chance = Chance::new(settings.seed);
    let mut first = Client::patient(&world, settings.clients, &chance);
    for _ in 0..WORKSPACES {
        first.create();
    }
    let deeds = std::thread::scope(|scope| {
        for number in 0..settings.clients {
            let mut client = Client::new(&world, number, &chance);
            scope.spawn(move || client.work());
        }
        let _over = Over(&history);
        Nemesis::new(&world, &chance, settings.guests == Guests::Sandbox).rage(settings.kills, tell)
    });
    let export = ending::conclude(&world, &chance);
    let (told, mut violations) = history.take();
    violations.extend(check(&told, &export));
    report::keep(&violations, &pyro, settings.seed, &export, &told);
    Report {
        settings: *settings,
        deeds,
        told,
        events: export.lines().count(),
        violations,
        took: begun.elapsed(),
    }
}

/// Ends the work of the clients, also when the nemesis panics: nobody would wait for them otherwise.
struct Over<'a>(&'a History);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.end();
    }
}
