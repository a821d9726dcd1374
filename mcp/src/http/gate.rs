//! Who may ask: looked at before anything else of a request, in an order in which nobody learns more than they must.

use http::header::{AUTHORIZATION, HOST, ORIGIN};
use http::uri::Authority;
use http::{HeaderMap, HeaderName, Uri};
use pyro_api::AccessFault;

use super::token::Token;

/// The scheme of tokens, with what follows it.
const SCHEME: &str = "bearer ";

/// What is let in.
#[derive(Clone, Debug)]
pub(crate) struct Gate {
    token: Token,
    /// Names and addresses under which the server is asked, in lower case.
    hosts: Vec<String>,
    port: u16,
    /// Sites whose pages may ask, besides the server's own.
    origins: Vec<String>,
}

/// Who is not let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) reason: AccessFault,
    /// What was claimed; empty for a token.
    pub(crate) claimed: String,
}

impl Gate {
    pub(crate) fn new(token: Token, hosts: Vec<String>, port: u16, origins: Vec<String>) -> Self {
        let lower = |names: Vec<String>| names.iter().map(|name| name.to_ascii_lowercase()).collect();
        Self { token, hosts: lower(hosts), port, origins: lower(origins) }
    }

    /// Judges the head of a request.
    pub(crate) fn judge(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), Fault> {
        let fault = |reason, claimed: String| Err(Fault { reason, claimed });
        // A page can make its own name point to this machine, but then its requests carry that name.
        match only(headers, &HOST) {
            Some(host) if self.is_own(host) => {}
            host => return fault(AccessFault::Host, host.unwrap_or("").to_owned()),
        }
        if let Some(authority) = uri.authority()
            && !self.is_own(authority.as_str())
        {
            return fault(AccessFault::Host, authority.to_string());
        }
        if headers.contains_key(ORIGIN) {
            match only(headers, &ORIGIN) {
                Some(origin) if self.is_allowed(origin) => {}
                origin => return fault(AccessFault::Origin, origin.unwrap_or("").to_owned()),
            }
        }
        match only(headers, &AUTHORIZATION).and_then(token_of) {
            Some(said) if self.token.is(said) => Ok(()),
            _ => fault(AccessFault::Token, String::new()),
        }
    }

    /// Tells whether a `Host` names this server.
    fn is_own(&self, host: &str) -> bool {
        // It has no user and password, which a parser may take for the name.
        let Ok(authority) = host.parse::<Authority>() else { return false };
        let port = match authority.port() {
            Some(port) => port.as_u16(),
            // The parser takes a colon without a number.
            None if host.ends_with(':') => return false,
            None => 80,
        };
        let name = authority.host().to_ascii_lowercase();
        !host.contains('@') && port == self.port && self.hosts.contains(&name)
    }

    fn is_allowed(&self, origin: &str) -> bool {
        let origin = origin.to_ascii_lowercase();
        self.origins.contains(&origin) || origin.strip_prefix("http://").is_some_and(|host| self.is_own(host))
    }
}

/// Returns the value of a header that is there once and is text.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().ok(),
        _ => None,
    }
}

fn token_of(authorization: &str) -> Option<&[u8]> {
    let scheme = authorization.get(..SCHEME.len())?;
    scheme.eq_ignore_ascii_case(SCHEME).then(|| authorization[SCHEME.len()..].trim_start().as_bytes())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    const TOKEN: &str = "0123456789abcdef";

    fn gate() -> Gate {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        std::fs::write(&path, TOKEN).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        let hosts = ["127.0.0.1", "localhost", "[::1]", "Box.example"].map(str::to_owned).to_vec();
        Gate::new(Token::of_file(&path).unwrap(), hosts, 8765, vec!["https://app.example".to_owned()])
    }

    fn judged(uri: &str, lines: &[(&str, &str)]) -> Option<AccessFault> {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            headers.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        gate().judge(&uri.parse().unwrap(), &headers).err().map(|fault| fault.reason)
    }

    fn bearer() -> (&'static str, &'static str) {
        ("authorization", "Bearer 0123456789abcdef")
    }

    /// Catches a name that somebody else made point here, in any spelling.
    #[test]
    fn hosts() {
        for host in ["127.0.0.1:8765", "localhost:8765", "LOCALHOST:8765", "[::1]:8765", "box.example:8765"] {
            assert_eq!(judged("/mcp", &[("host", host), bearer()]), None, "{host}");
        }
        for host in [
            "",
            "evil.example:8765",
            "localhost",
            "localhost:80",
            "localhost:",
            "localhost.:8765",
            "127.0.0.1:8765:8765",
            "localhost:8765@evil.example",
            "evil.example@localhost:8765",
            "localhost.evil.example:8765",
            "127.1:8765",
            "[::1]",
            "::1:8765",
            "0.0.0.0:8765",
            "localhost:8765/x",
            "localhost:08765x",
            "http://localhost:8765",
        ] {
            assert_eq!(judged("/mcp", &[("host", host), bearer()]), Some(AccessFault::Host), "{host}");
        }
        let own = ("host", "localhost:8765");
        assert_eq!(judged("/mcp", &[own, own, bearer()]), Some(AccessFault::Host), "twice");
        assert_eq!(judged("/mcp", &[bearer()]), Some(AccessFault::Host), "none");
        assert_eq!(judged("http://localhost:8765/mcp", &[own, bearer()]), None);
        assert_eq!(judged("http://evil.example:8765/mcp", &[own, bearer()]), Some(AccessFault::Host));
    }

    /// Catches a page of another site.
    #[test]
    fn origins() {
        let own = ("host", "localhost:8765");
        for origin in
            ["http://localhost:8765", "http://127.0.0.1:8765", "https://app.example", "HTTPS://App.Example"]
        {
            assert_eq!(judged("/mcp", &[own, ("origin", origin), bearer()]), None, "{origin}");
        }
        for origin in [
            "null",
            "",
            "http://localhost",
            "https://localhost:8765",
            "http://evil.example",
            "https://app.example.evil",
            "https://app.example:444",
            "http://localhost:8765/",
            "file://",
        ] {
            let judged = judged("/mcp", &[own, ("origin", origin), bearer()]);
            assert_eq!(judged, Some(AccessFault::Origin), "{origin}");
        }
        let twice = ("origin", "http://localhost:8765");
        assert_eq!(judged("/mcp", &[own, twice, twice, bearer()]), Some(AccessFault::Origin));
    }

    /// Catches a token that is nearly right.
    #[test]
    fn tokens() {
        let own = ("host", "localhost:8765");
        for value in ["Bearer 0123456789abcdef", "bearer 0123456789abcdef", "BEARER   0123456789abcdef"] {
            assert_eq!(judged("/mcp", &[own, ("authorization", value)]), None, "{value}");
        }
        for value in [
            "",
            "Bearer",
            "Bearer ",
            "0123456789abcdef",
            "Basic 0123456789abcdef",
            "Bearer 0123456789abcde",
            "Bearer 0123456789abcdef0",
            "Bearer 0123456789abcdef,",
            "Bearer0123456789abcdef",
            "Bearer é",
        ] {
            let judged = judged("/mcp", &[own, ("authorization", value)]);
            assert_eq!(judged, Some(AccessFault::Token), "{value}");
        }
        assert_eq!(judged("/mcp", &[own, bearer(), bearer()]), Some(AccessFault::Token), "twice");
        assert_eq!(judged("/mcp", &[own]), Some(AccessFault::Token));
    }
}
