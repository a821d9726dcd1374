//! Writes the Python types of the daemon's answers.

use std::path::Path;

use pyro_tests::typed_dicts;

fn main() -> std::io::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    std::fs::write(root.join(typed_dicts::PATH), typed_dicts::module())
}
