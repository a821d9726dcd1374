//! Tests of the store through its public interface and the bytes that it leaves on disk.
//!
//! `layout` is a second implementation of the formats, written from `docs/log-format.md` alone; `sample` has events.

#[cfg(test)]
mod bits;
#[cfg(test)]
mod checkpoint;
#[cfg(test)]
mod compaction;
#[cfg(test)]
mod crash;
#[cfg(test)]
mod damage;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod full_disk;
#[cfg(test)]
mod golden;
#[cfg(test)]
mod history;
#[cfg(test)]
mod images;
#[cfg(test)]
mod index;
#[cfg(test)]
mod interrupted;
#[cfg(test)]
mod layout;
#[cfg(test)]
mod log;
#[cfg(test)]
mod memory;
#[cfg(test)]
mod model;
#[cfg(test)]
mod outputs;
#[cfg(test)]
mod poison;
#[cfg(test)]
mod repair;
#[cfg(test)]
mod sample;
#[cfg(test)]
mod tampering;

/// A file in `tests` that is not a module above would never run.
#[test]
fn every_file_is_a_module() {
    let main = include_str!("main.rs");
    let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "rs") && !path.ends_with("main.rs") {
            let module = path.file_stem().unwrap().to_str().unwrap();
            assert!(main.contains(&format!("\nmod {module};")), "{module} is not declared in main.rs");
        }
    }
}
