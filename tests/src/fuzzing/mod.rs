//! Bodies of the fuzz targets: each takes any bytes and panics when the code that reads them breaks a promise.
//!
//! libFuzzer runs them in `tests/fuzz`, and `tests/tests/fuzz.rs` runs them on [`Mutator`]'s inputs with every `make
//! test`. A body does the same for the same bytes, whatever ran before it.

mod api_frames;
mod archive;
mod guest_frames;
mod log_records;
mod log_segment;
mod manifest;
mod mutator;
mod pieces;
mod terminal;

pub use mutator::Mutator;

/// One thing that reads what others wrote.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name, also of its directory in `tests/fuzz/corpus`.
    pub name: &'static str,
    /// The body.
    pub run: fn(&[u8]),
    /// Returns valid inputs, from which mutations lead deep into the code.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Bytes that mean something to the code, for mutations to insert.
    pub words: &'static [&'static [u8]],
    /// Returns places where fields begin, as far as the input can be understood; none is behind its end.
    pub fields: fn(&[u8]) -> Vec<usize>,
}

macro_rules! targets {
    ($($module:ident,)+) => {
        /// All targets, each in the module of its name.
        pub const TARGETS: &[Target] = &[$(Target {
            name: stringify!($module),
            run: $module::run,
            seeds: $module::seeds,
            words: $module::WORDS,
            fields: $module::fields,
        },)+];
    };
}

targets! { api_frames, archive, guest_frames, log_records, log_segment, manifest, terminal, }

/// Returns the target of a name.
///
/// # Panics
///
/// When there is none.
#[must_use]
pub fn target(name: &str) -> &'static Target {
    TARGETS.iter().find(|target| target.name == name).expect("the target is in the table")
}
