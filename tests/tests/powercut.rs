//! A guest that writes a log loses its power.

#![expect(clippy::print_stderr, reason = "a skipped test says why")]

use std::path::Path;

use pyro_tests::powercut::Cuts;

/// Catches an acknowledgement before the disk had the record, and a log or an index that does not open after a power
/// cut. The second round begins with what the first one left.
#[test]
fn acknowledged_events_survive_a_power_cut() {
    let Some(writer) = std::env::var_os("PYRO_POWERCUT_WRITER") else {
        eprintln!(
            "skipped: PYRO_POWERCUT_WRITER does not name a static build of the example powercut-writer"
        );
        return;
    };
    let mut cuts = Cuts::new(Path::new(&writer), 0x7079_726f).expect("the guest can be prepared");
    for _ in 0..2 {
        let round = cuts.round().unwrap_or_else(|error| panic!("{error}"));
        assert!(round.acked > 0, "{round:?}");
    }
}
