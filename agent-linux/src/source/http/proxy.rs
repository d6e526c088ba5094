//! Which proxy an address is reached by: that of the device description, else what the environment names, by the names that other
//! programs read too.

use super::setup::SetupProblem;
use crate::config::Network;
use std::env;
use ureq::Proxy;
use ureq::ProxyProtocol;
use ureq::http::Uri;
use ureq::http::uri::Scheme;

/// What the environment says of proxies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Environment {
    http: Option<String>,
    https: Option<String>,
    no_proxy: Vec<String>,
}

impl Environment {
    pub fn read() -> Self {
        Self::of(|name| env::var(name).ok())
    }

    /// `HTTP_PROXY` does not count: a web server that runs a program gives it the header `Proxy:` under that name.
    fn of(variable: impl Fn(&str) -> Option<String>) -> Self {
        let first = |names: &[&str]| {
            let mut values = names.iter().filter_map(|name| variable(name));
            values.find(|value| !value.is_empty())
        };
        let any = first(&["all_proxy", "ALL_PROXY"]);
        let no_proxy = first(&["no_proxy", "NO_PROXY"]).unwrap_or_default();
        let hosts = no_proxy.split(',').map(str::trim);
        Self {
            http: first(&["http_proxy"]).or_else(|| any.clone()),
            https: first(&["https_proxy", "HTTPS_PROXY"]).or(any),
            no_proxy: hosts
                .filter(|host| !host.is_empty())
                .map(str::to_owned)
                .collect(),
        }
    }
}

/// The proxy for an address; `None` for the way without one.
pub(super) fn choose(
    network: &Network,
    environment: &Environment,
    uri: &Uri,
) -> Result<Option<Proxy>, SetupProblem> {
    let is_https = uri.scheme() == Some(&Scheme::HTTPS);
    let of_environment = if is_https {
        &environment.https
    } else {
        &environment.http
    };
    let Some(text) = network.proxy.as_ref().or(of_environment.as_ref()) else {
        return Ok(None);
    };
    let host = uri.host().unwrap_or_default();
    let mut exceptions = network.no_proxy.iter().chain(&environment.no_proxy);
    if exceptions.any(|exception| is_meant(exception, host)) {
        return Ok(None);
    }
    let proxy = Proxy::new(text).ok();
    proxy
        .filter(|proxy| proxy.protocol() == ProxyProtocol::Http)
        .map(Some)
        .ok_or(SetupProblem::Proxy)
}

/// `example.org` means the host and all below it, as does `.example.org`; `*` means every host.
fn is_meant(exception: &str, host: &str) -> bool {
    let name = exception
        .trim_start_matches('*')
        .trim_start_matches('.')
        .to_ascii_lowercase();
    let host = host.to_ascii_lowercase();
    let above = host.strip_suffix(&name);
    above.is_some_and(|above| name.is_empty() || above.is_empty() || above.ends_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(network: &Network, environment: &Environment, address: &str) -> Option<String> {
        let proxy = choose(network, environment, &address.parse().unwrap()).unwrap();
        proxy.map(|proxy| format!("{}:{}", proxy.host(), proxy.port()))
    }

    #[test]
    fn each_scheme_has_its_proxy_and_the_description_counts_more() {
        let environment = Environment::of(|name| {
            let value = match name {
                "http_proxy" => "http://one:3128",
                "HTTP_PROXY" => "http://header:1",
                "ALL_PROXY" => "two:8080",
                "no_proxy" => "localhost, .example.org",
                _ => return None,
            };
            Some(value.to_owned())
        });
        let mut network = Network::default();
        let at = |network: &Network, address: &str| chosen(network, &environment, address);
        assert_eq!(at(&network, "http://a/x"), Some("one:3128".into()));
        assert_eq!(at(&network, "https://a/x"), Some("two:8080".into()));
        for direct in [
            "http://localhost/x",
            "https://cdn.Example.org/x",
            "http://example.org",
        ] {
            assert_eq!(at(&network, direct), None, "{direct}");
        }
        assert!(at(&network, "http://notexample.org/").is_some());
        network.proxy = Some("http://user:pass@three:1".to_owned());
        assert_eq!(at(&network, "http://a/x"), Some("three:1".into()));
        network.no_proxy = vec!["*".to_owned()];
        assert_eq!(at(&network, "http://a/x"), None);
        assert_eq!(
            chosen(&Network::default(), &Environment::default(), "http://a"),
            None
        );
    }

    #[test]
    fn a_proxy_that_is_not_spoken_to_in_http_is_refused() {
        for text in ["socks5://a:1", "https://a", "not an address"] {
            let network = Network {
                proxy: Some(text.to_owned()),
                ..Network::default()
            };
            let chosen = choose(
                &network,
                &Environment::default(),
                &"http://a".parse().unwrap(),
            );
            assert_eq!(chosen.unwrap_err(), SetupProblem::Proxy, "{text}");
        }
    }
}
