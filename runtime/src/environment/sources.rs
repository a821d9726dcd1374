//! Where this machine gets its Debian packages from.
//!
//! A machine behind a mirror or a proxy can often reach nothing else, so a Debian 12 host's own sources and network
//! settings are used for its environments. Any other host gets mmdebstrap's default mirror.

use crate::host::Tool;

use super::command::Runner;
use super::pull::PullError;

/// Debian release of all environments.
pub(super) const SUITE: &str = "bookworm";

/// One line per index that apt would read, in the fields that [`parse_sources`] expects.
const INDEX_FORMAT: &str = "$(REPO_URI)|$(RELEASE)|$(COMPONENT)|$(ORIGIN)";

/// Returns the host's sources of Debian 12 as lines of a `sources.list`; empty means the default mirror.
pub(super) fn host_sources(runner: &Runner<'_>) -> Result<Vec<String>, PullError> {
    let arguments = ["indextargets", "--format", INDEX_FORMAT, "Created-By: Packages"];
    match runner.run(Tool::AptGet, &arguments, &mut |_| {}) {
        Ok(output) => Ok(parse_sources(&String::from_utf8_lossy(&output))),
        // A host whose own sources are broken can still have the default mirror.
        Err(PullError::ToolFailed { .. }) => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// Returns the host's proxy, certificate and date settings as lines of an `apt.conf`.
pub(super) fn host_settings(runner: &Runner<'_>) -> Result<Vec<String>, PullError> {
    let output = runner.run(Tool::AptConfig, &["dump"], &mut |_| {})?;
    Ok(parse_settings(&String::from_utf8_lossy(&output)))
}

fn parse_sources(targets: &str) -> Vec<String> {
    let suites = [SUITE.to_owned(), format!("{SUITE}-updates"), format!("{SUITE}-security")];
    let mut lines: Vec<String> = Vec::new();
    let mut has_base = false;
    for target in targets.lines() {
        let mut fields = target.split('|');
        let (Some(uri), Some(suite), Some(component), Some(origin)) =
            (fields.next(), fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        // Other vendors use Debian's suite names too. The origin stays a placeholder until `apt-get update` ran.
        let from_debian = origin == "Debian" || origin == "$(ORIGIN)";
        if !from_debian || component != "main" || !suites.iter().any(|known| known == suite) {
            continue;
        }
        has_base |= suite == SUITE;
        let line = format!("deb {uri} {suite} main");
        if !lines.contains(&line) {
            lines.push(line);
        }
    }
    if has_base { lines } else { Vec::new() }
}

fn parse_settings(dump: &str) -> Vec<String> {
    let wanted = ["Acquire::http", "Acquire::https", "Acquire::ftp", "Acquire::Check-", "Acquire::Retries"];
    let set = |line: &&str| wanted.iter().any(|start| line.starts_with(start)) && !line.ends_with(" \"\";");
    dump.lines().filter(set).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::{parse_settings, parse_sources};

    #[test]
    fn only_debian_itself_is_taken() {
        let targets = "http://mirror/debian/|bookworm|main|Debian\n\
            http://mirror/debian/|bookworm|contrib|Debian\n\
            http://mirror/debian/|bookworm|main|Debian\n\
            http://mirror/debian/|bookworm-backports|main|Debian Backports\n\
            http://mirror/security/|bookworm-security|main|$(ORIGIN)\n\
            http://vendor/|bookworm|main|Vendor\n\
            http://vendor/|bookworm|stable|$(ORIGIN)\n";
        let expected =
            ["deb http://mirror/debian/ bookworm main", "deb http://mirror/security/ bookworm-security main"];
        assert_eq!(parse_sources(targets), expected);
    }

    #[test]
    fn a_host_of_another_release_has_no_sources_for_us() {
        assert!(
            parse_sources("http://mirror/debian/|trixie|main|Debian\nhttp://m/|bookworm-updates|main|Debian")
                .is_empty()
        );
        assert!(parse_sources("").is_empty());
    }

    #[test]
    fn network_settings_are_taken_and_others_left() {
        let dump = "APT \"\";\nAcquire \"\";\nAcquire::http \"\";\nAcquire::http::Proxy \"http://proxy:3128\";\n\
            Acquire::Check-Date \"false\";\nAcquire::Languages:: \"none\";\nDir \"/\";\n";
        let expected = ["Acquire::http::Proxy \"http://proxy:3128\";", "Acquire::Check-Date \"false\";"];
        assert_eq!(parse_settings(dump), expected);
    }
}
