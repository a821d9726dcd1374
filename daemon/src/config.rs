//! What the person who runs the daemon decides: `config.toml` in `PYRO_HOME`.

use std::io;
use std::path::{Path, PathBuf};

use pyro_core::{Limits, RetentionPolicy};
use serde::Deserialize;

/// The host keeps this part of its memory for itself, in percent, unless the configuration says otherwise.
const MEM_PERCENT_OF_HOST: u64 = 80;

/// How much of one stream is kept, in MiB, unless the configuration says otherwise.
const STREAM_MIB: u64 = 128;

/// How much of all streams of one workspace is kept, in MiB, unless the configuration says otherwise.
const WORKSPACE_MIB: u64 = 1024;

/// The configuration file. Every key is optional.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    pub(crate) backend: BackendChoice,
    pub(crate) accelerator: AcceleratorChoice,
    pub(crate) limits: LimitsConfig,
    pub(crate) disk_mib: DiskMib,
    pub(crate) retention: RetentionConfig,
    pub(crate) mount: MountChoice,
    /// Whether recordings in the mount have what was typed.
    pub(crate) cast_input: bool,
}

/// Which backend runs guests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum BackendChoice {
    /// The best one that works here.
    #[default]
    Auto,
    /// QEMU, whatever else is possible.
    Qemu,
    /// The host sandbox for those who opted in; others are refused.
    HostSandbox,
}

/// What executes the instructions of virtual machines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum AcceleratorChoice {
    /// KVM when a guest has been seen to boot with it, else QEMU's translator.
    #[default]
    Auto,
    /// QEMU's translator, without trying KVM.
    Tcg,
}

/// Whether the tree of files is mounted when the daemon starts.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub(crate) enum MountChoice {
    /// At the place that `pyro mount` takes by itself, or not at all.
    Wanted(bool),
    /// At this one.
    At(PathBuf),
}

impl Default for MountChoice {
    fn default() -> Self {
        Self::Wanted(false)
    }
}

/// Size of a workspace's writable disk, in MiB; the file is sparse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub(crate) struct DiskMib(pub(crate) u64);

impl Default for DiskMib {
    fn default() -> Self {
        Self(8192)
    }
}

/// Bounds; see [`Limits`]. `None` leaves a bound at its default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct LimitsConfig {
    vcpu_max: Option<u32>,
    mem_mib_total: Option<u64>,
    ttl_seconds_min: Option<u64>,
    ttl_seconds_max: Option<u64>,
    workspaces_max: Option<u32>,
    guests_max: Option<u32>,
    open_execs_max: Option<u32>,
}

/// How much is kept of what commands and shells write, and of the event log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RetentionConfig {
    stream_mib: Option<u64>,
    workspace_mib: Option<u64>,
    log_days: Option<u32>,
    log_mib: Option<u64>,
}

impl RetentionConfig {
    /// Returns what is kept of the event log; zero stands for all, as for output.
    pub(crate) fn log(&self) -> RetentionPolicy {
        let (keep_days, keep_mib) =
            (self.log_days.filter(|days| *days > 0), self.log_mib.filter(|mib| *mib > 0));
        RetentionPolicy { keep_days, keep_mib, before: None }
    }

    /// Returns how many bytes of one stream are kept at most; `None` for all.
    pub(crate) const fn stream_bytes(&self) -> Option<u64> {
        bytes_of(self.stream_mib, STREAM_MIB)
    }

    /// Returns how many bytes of all streams of one workspace are kept at most; `None` for all.
    pub(crate) const fn workspace_bytes(&self) -> Option<u64> {
        bytes_of(self.workspace_mib, WORKSPACE_MIB)
    }
}

/// Returns a bound in bytes; zero stands for none.
const fn bytes_of(set_mib: Option<u64>, default_mib: u64) -> Option<u64> {
    let mib = match set_mib {
        Some(mib) => mib,
        None => default_mib,
    };
    if mib == 0 { None } else { Some(mib.saturating_mul(1 << 20)) }
}

/// Why the configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// The file is there and cannot be read.
    #[error("failed to read {path}: {source}", path = path.display())]
    Read { path: PathBuf, source: io::Error },
    /// The file is not what it must be.
    #[error("{path} is not a valid configuration: {source}", path = path.display())]
    Parse { path: PathBuf, source: Box<toml::de::Error> },
}

impl Config {
    /// Reads the file; one that is not there is an empty one.
    pub(crate) fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(source) => return Err(ConfigError::Read { path: path.to_owned(), source }),
        };
        toml::from_str(&text)
            .map_err(|source| ConfigError::Parse { path: path.to_owned(), source: Box::new(source) })
    }

    /// Returns the bounds on a host with that much memory.
    pub(crate) fn limits(&self, host_mem_mib: u64) -> Limits {
        let default = Limits::default();
        let set = &self.limits;
        Limits {
            vcpu_max: set.vcpu_max.unwrap_or(default.vcpu_max),
            mem_mib_total: set.mem_mib_total.unwrap_or(host_mem_mib * MEM_PERCENT_OF_HOST / 100),
            ttl_seconds_min: set.ttl_seconds_min.unwrap_or(default.ttl_seconds_min),
            ttl_seconds_max: set.ttl_seconds_max.unwrap_or(default.ttl_seconds_max),
            workspaces_max: set.workspaces_max.unwrap_or(default.workspaces_max),
            guests_max: set.guests_max.unwrap_or(default.guests_max),
            open_execs_max: set.open_execs_max.unwrap_or(default.open_execs_max),
            ..default
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_keys_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.toml");
        std::fs::write(&path, "[limits]\nguest_max = 4\n").unwrap();
        let error = Config::load(&path).unwrap_err().to_string();
        assert!(error.contains("guest_max"), "{error}");
    }

    /// Catches output that is bounded though nobody wants it to be, or the other way round.
    #[test]
    fn zero_keeps_all_output() {
        let bounds = |text: &str| {
            let retention = toml::from_str::<Config>(text).unwrap().retention;
            (retention.stream_bytes(), retention.workspace_bytes())
        };
        assert_eq!(bounds(""), (Some(128 << 20), Some(1 << 30)));
        assert_eq!(bounds("[retention]\nstream_mib = 1\nworkspace_mib = 0\n"), (Some(1 << 20), None));
        assert_eq!(bounds("[retention]\nstream_mib = 0\n"), (None, Some(1 << 30)));
    }

    /// Catches a log that is dropped although nobody asked for it, or kept although somebody did.
    #[test]
    fn the_log_is_kept_unless_a_bound_is_set() {
        let policy = |text: &str| toml::from_str::<Config>(text).unwrap().retention.log();
        for text in ["", "[retention]\nlog_days = 0\nlog_mib = 0\n"] {
            assert_eq!(policy(text), RetentionPolicy::default(), "{text}");
        }
        let set = RetentionPolicy { keep_days: Some(90), keep_mib: Some(512), before: None };
        assert_eq!(policy("[retention]\nlog_days = 90\nlog_mib = 512\n"), set);
    }

    #[test]
    fn missing_file_and_missing_keys_mean_defaults() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.toml");
        assert_eq!(Config::load(&path).unwrap(), Config::default());
        std::fs::write(&path, "backend = \"qemu\"\n[limits]\nguests_max = 4\n").unwrap();
        let config = Config::load(&path).unwrap();
        assert_eq!((config.backend, &config.mount), (BackendChoice::Qemu, &MountChoice::Wanted(false)));
        let limits = config.limits(1000);
        assert_eq!((limits.guests_max, limits.mem_mib_total, limits.vcpu_max), (4, 800, 32));
    }

    #[test]
    fn a_mount_is_a_wish_or_a_place() {
        let mount = |text: &str| toml::from_str::<Config>(text).unwrap().mount;
        assert_eq!(mount("mount = true"), MountChoice::Wanted(true));
        assert_eq!(mount("mount = \"/srv/pyro\""), MountChoice::At("/srv/pyro".into()));
    }
}
