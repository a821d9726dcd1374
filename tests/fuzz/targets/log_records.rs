#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| (pyro_tests::fuzzing::target("log_records").run)(input));
