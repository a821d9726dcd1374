//! Names of signals, as results show them.

/// Names of the signals 1 to 31 of Linux on x86-64, in order.
const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE",
    "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ",
    "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];

/// Returns the name of a signal without `SIG`, such as `KILL` for 9; real-time signals and unknown ones are numbers.
#[must_use]
pub fn signal_name(number: u8) -> String {
    usize::from(number)
        .checked_sub(1)
        .and_then(|index| NAMES.get(index))
        .map_or_else(|| number.to_string(), |name| (*name).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_kernel() {
        let known = [
            (1, "HUP"),
            (2, "INT"),
            (9, "KILL"),
            (11, "SEGV"),
            (15, "TERM"),
            (31, "SYS"),
            (34, "34"),
            (0, "0"),
        ];
        for (number, name) in known {
            assert_eq!(signal_name(number), name);
        }
    }
}
