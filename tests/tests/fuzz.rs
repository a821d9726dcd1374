//! The fuzz targets on stable Rust: all inputs that are checked in, and mutations that are the same on every machine.
//! `make fuzz` runs the same bodies under libFuzzer.

use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

use pyro_tests::fuzzing::{Mutator, TARGETS, Target, target};

/// Inputs that each target gets beyond those that are checked in, unless `PYRO_FUZZ_INPUTS` says another number.
const INPUTS: u64 = 4_000;

/// What the first mutation begins with; `PYRO_FUZZ_SEED` sets another number.
const SEED: u64 = 4;

fn corpus(target: &Target) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target.name)
}

fn number(variable: &str, default: u64) -> u64 {
    match std::env::var(variable) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{variable} is not a number: {text}")),
        Err(_) => default,
    }
}

/// Returns the checked-in inputs of a target: what fuzzers found, by name.
fn checked_in(target: &Target) -> Vec<(String, Vec<u8>)> {
    let Ok(entries) = fs::read_dir(corpus(target)) else { return Vec::new() };
    let paths = entries.map(|entry| entry.expect("the corpus can be read").path());
    let mut inputs: Vec<_> = paths
        .map(|path| (path.display().to_string(), fs::read(&path).expect("an input can be read")))
        .collect();
    inputs.sort();
    inputs
}

/// Runs a body and says which input it does not stand.
fn run(target: &Target, name: &str, input: &[u8]) {
    if catch_unwind(|| (target.run)(input)).is_err() {
        panic!("the target {} fails on {name}: {}", target.name, input.escape_ascii());
    }
}

fn run_all(name: &str) {
    let target = target(name);
    let checked_in = checked_in(target);
    let mut seeds = (target.seeds)();
    for (number, seed) in seeds.iter().enumerate() {
        run(target, &format!("its seed {number}"), seed);
    }
    for (name, input) in checked_in {
        run(target, &name, &input);
        seeds.push(input);
    }
    let seed = number("PYRO_FUZZ_SEED", SEED);
    let mut mutator = Mutator::new(seed, seeds, target);
    for round in 0..number("PYRO_FUZZ_INPUTS", INPUTS) {
        run(target, &format!("input {round} of PYRO_FUZZ_SEED={seed}"), &mutator.next_input());
    }
}

/// Catches a target that `make test` forgets, and a corpus that belongs to none.
#[test]
fn every_target_has_a_test_a_program_and_a_corpus() {
    let tests = include_str!("fuzz.rs");
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let manifest = fs::read_to_string(dir.join("Cargo.toml")).unwrap();
    for Target { name, .. } in TARGETS {
        assert!(tests.contains(&format!("run_all(\"{name}\")")), "{name} is not run here");
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name} is not in tests/fuzz/Cargo.toml");
        assert!(dir.join("targets").join(name).with_extension("rs").exists(), "{name} has no program");
    }
    for entry in fs::read_dir(dir.join("corpus")).unwrap() {
        let name = entry.unwrap().file_name();
        assert!(TARGETS.iter().any(|target| *target.name == *name), "{name:?} is the corpus of nothing");
    }
}

/// Catches frames or messages of client or daemon that panic, depend on how they arrive, or change when they are passed
/// on.
#[test]
fn api_frames() {
    run_all("api_frames");
}

/// Catches archives that make the reader panic, or through which something gets out that breaks a rule.
#[test]
fn archive() {
    run_all("archive");
}

/// Catches frames of host or guest that panic, depend on how they arrive, allocate beyond their limit, or change when
/// they are passed on.
#[test]
fn guest_frames() {
    run_all("guest_frames");
}

/// Catches payloads at which the log or its fold panics, that are blamed on another record, or that are read again as
/// something else.
#[test]
fn log_records() {
    run_all("log_records");
}

/// Catches segments at which the log panics, shows more than a prefix, or is not whole after a repair.
#[test]
fn log_segment() {
    run_all("log_segment");
}

/// Catches manifests at which the reader panics, or that change when they are written again.
#[test]
fn manifest() {
    run_all("manifest");
}

/// Catches output that reaches the terminal with more than text and colours, or that depends on how it arrives.
#[test]
fn terminal() {
    run_all("terminal");
}

/// Writes the seeds where libFuzzer finds them; `make fuzz` calls it.
#[test]
#[ignore = "writes files"]
fn write_seeds() {
    let dir = PathBuf::from(std::env::var_os("PYRO_FUZZ_SEEDS").expect("PYRO_FUZZ_SEEDS names a directory"));
    for target in TARGETS {
        let dir = dir.join(target.name);
        fs::create_dir_all(&dir).unwrap();
        for (number, seed) in (target.seeds)().iter().enumerate() {
            fs::write(dir.join(format!("seed-{number}")), seed).unwrap();
        }
        let words: Vec<_> = target.words.iter().map(|word| quoted(word)).collect();
        fs::write(dir.with_extension("dict"), words.concat()).unwrap();
    }
}

/// Returns a line of libFuzzer's dictionaries.
fn quoted(word: &[u8]) -> String {
    let bytes: String = word.iter().map(|byte| format!("\\x{byte:02x}")).collect();
    format!("\"{bytes}\"\n")
}
