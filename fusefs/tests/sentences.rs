//! Every promise of `docs/semantics.md` has a test that quotes it.

const PAGE: &str = include_str!("../../docs/semantics.md");

const TESTS: [&str; 4] = [
    include_str!("promises.rs"),
    include_str!("mounted.rs"),
    include_str!("reference.rs"),
    include_str!("live.rs"),
];

fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Returns the quotations of all tests, one behind the other.
fn quoted() -> String {
    let lines = TESTS.iter().flat_map(|test| test.lines());
    let quotes = lines.filter_map(|line| line.trim().strip_prefix("/// > "));
    words(&quotes.collect::<Vec<_>>().join(" "))
}

#[test]
fn every_promise_has_a_test() {
    let quoted = quoted();
    let missing: Vec<&str> = PAGE
        .lines()
        .filter_map(|line| line.strip_prefix("- "))
        .filter(|sentence| !quoted.contains(&words(sentence)))
        .collect();
    assert!(missing.is_empty(), "promised and not tested:\n{}", missing.join("\n"));
}

/// Catches a test that goes on quoting what is not promised any more.
#[test]
fn every_quotation_is_a_promise() {
    let mut rest = quoted();
    for sentence in PAGE.lines().filter_map(|line| line.strip_prefix("- ")) {
        rest = rest.replace(&words(sentence), "");
    }
    assert_eq!(rest.trim(), "", "quoted and not promised");
}
