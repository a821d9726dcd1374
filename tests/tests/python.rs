//! What the Python package takes from the contract. The package itself is tested by `make python-test`.

use std::path::Path;

use pyro_tests::typed_dicts;

/// Catches an answer that has other keys than the types of Python say.
#[test]
fn types_of_answers_are_those_of_the_schemas() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(typed_dicts::PATH);
    let committed = std::fs::read_to_string(path).expect("the module is there");
    assert!(
        committed == typed_dicts::module(),
        "{} is not what the schemas say: run `cargo run -p pyro-tests --bin python-types`",
        typed_dicts::PATH
    );
}
