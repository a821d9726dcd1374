//! What the host tells the guest on the kernel command line.

use std::fs;
use std::io;
use std::path::PathBuf;

/// What the boot needs to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    /// `pyro.image`: the device with the environment, EROFS, read-only.
    pub(crate) image: PathBuf,
    /// `pyro.disk`: the device with the workspace's own writes, ext4.
    pub(crate) disk: PathBuf,
    /// `pyro.hostname`: the name of the machine.
    pub(crate) hostname: String,
}

impl Settings {
    /// Reads them from `/proc/cmdline`.
    pub(crate) fn read() -> io::Result<Self> {
        Ok(Self::parse(&fs::read_to_string("/proc/cmdline")?))
    }

    fn parse(line: &str) -> Self {
        let value = |name: &str, default: &str| {
            let mut given =
                line.split_ascii_whitespace().filter_map(|word| word.strip_prefix(name)?.strip_prefix('='));
            given.next_back().unwrap_or(default).to_owned()
        };
        Self {
            image: value("pyro.image", "/dev/vda").into(),
            disk: value("pyro.disk", "/dev/vdb").into(),
            hostname: value("pyro.hostname", "pyro"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_of_each_word_counts() {
        let settings =
            Settings::parse("quiet pyro.image=/dev/vdx pyro.hostname=a pyro.imagery=no pyro.hostname=b\n");
        let expected =
            Settings { image: "/dev/vdx".into(), disk: "/dev/vdb".into(), hostname: "b".to_owned() };
        assert_eq!(settings, expected);
    }
}
