//! The way to one server: straight or by a proxy, plain or with TLS; every byte of it over the line that counts.
//!
//! # Invariants
//! - The device's own certificate is shown to the server alone that the address named, never to one that a redirect leads to.

use super::forward::{Forwarding, ToProxy};
use super::names::{Known, Once};
use super::problem::HttpProblem;
use super::proxy::{Environment, choose};
use super::{Patience, setup};
use crate::config::Network;
use crate::source::line::{Connected, Counting, Line};
use base64::prelude::{BASE64_STANDARD, Engine};
use std::io;
use std::sync::Arc;
use ureq::config::Config;
use ureq::http::uri::Scheme;
use ureq::http::{Uri, header};
use ureq::typestate::WithoutBody;
use ureq::unversioned::resolver::DefaultResolver;
use ureq::unversioned::transport::{ConnectProxyConnector, Connector, RustlsConnector};
use ureq::{Agent, Proxy, RequestBuilder};

/// What making a connection with TLS takes at most, before one was made: mostly the server's certificates.
const HANDSHAKE_BYTES: u64 = 16 * 1024;

/// How a device reaches web servers.
#[derive(Clone, Debug, Default)]
pub struct Ways {
    network: Network,
    environment: Environment,
}

impl Ways {
    /// By what the device description says, and the environment.
    pub fn of(network: &Network) -> Self {
        Self {
            network: network.clone(),
            environment: Environment::read(),
        }
    }
}

/// The way to one server, and what is asked for there.
pub(super) struct Route {
    pub uri: Uri,
    agent: Agent,
    known: Known,
    has_handshake: bool,
    /// What the proxy wants to know, where it reads the requests.
    proxy_authorization: Option<String>,
}

impl Route {
    /// The way to `uri`; `given` is the address that somebody gave. A connection `reuses` says whether it serves more than one request.
    pub fn new(
        uri: Uri,
        given: &Uri,
        ways: &Ways,
        patience: &Patience,
        reuses: bool,
        line: &Arc<Line>,
    ) -> io::Result<Self> {
        let is_tls = uri.scheme() == Some(&Scheme::HTTPS);
        let setup = |problem| io::Error::from(HttpProblem::Setup(problem));
        let proxy = choose(&ways.network, &ways.environment, &uri).map_err(setup)?;
        let mut config = Agent::config_builder()
            .proxy(None)
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_resolve(Some(patience.connect))
            .timeout_connect(Some(patience.connect))
            .timeout_recv_response(Some(patience.idle))
            .timeout_per_read(Some(patience.idle))
            .user_agent(concat!("twinseal/", env!("CARGO_PKG_VERSION")))
            .accept("")
            // No server compresses what nobody offered to decode; one that did is noticed.
            .accept_encoding("");
        if !reuses {
            config = config.max_idle_connections(0);
        }
        if is_tls {
            let tls = setup::tls(&ways.network, is_same_server(&uri, given));
            config = config.tls_config(tls.map_err(setup)?);
        }
        let forwards = proxy.as_ref().filter(|_| !is_tls);
        let known = Known::default();
        let resolver = Once {
            resolver: DefaultResolver::default(),
            known: known.clone(),
        };
        Ok(Self {
            has_handshake: is_tls,
            proxy_authorization: forwards.and_then(authorization),
            agent: match forwards {
                Some(proxy) => forwarding(config.build(), resolver, proxy, &uri, line),
                None => straight(config.proxy(proxy).build(), resolver, line),
            },
            known,
            uri,
        })
    }

    /// Whether what is sent is in records of TLS.
    pub fn is_tls(&self) -> bool {
        self.uri.scheme() == Some(&Scheme::HTTPS)
    }

    /// Whether making a connection takes bytes.
    pub const fn has_handshake(&self) -> bool {
        self.has_handshake
    }

    /// What making a connection takes, before one was made.
    pub const fn handshake_bytes(&self) -> u64 {
        if self.has_handshake {
            HANDSHAKE_BYTES
        } else {
            0
        }
    }

    /// Lets the next connection look anew where the server is.
    pub fn forget_addresses(&self) {
        self.known.forget();
    }

    pub fn get(&self) -> RequestBuilder<WithoutBody> {
        self.authorized(self.agent.get(&self.uri))
    }

    pub fn head(&self) -> RequestBuilder<WithoutBody> {
        self.authorized(self.agent.head(&self.uri))
    }

    fn authorized(&self, request: RequestBuilder<WithoutBody>) -> RequestBuilder<WithoutBody> {
        match &self.proxy_authorization {
            Some(value) => request.header(header::PROXY_AUTHORIZATION, value),
            None => request,
        }
    }
}

/// Name and password for the proxy (RFC 7617).
fn authorization(proxy: &Proxy) -> Option<String> {
    let (user, password) = (proxy.username()?, proxy.password().unwrap_or_default());
    let text = BASE64_STANDARD.encode(format!("{user}:{password}"));
    Some(format!("Basic {text}"))
}

/// Whether two addresses are of the same server, by scheme, host and port.
pub(super) fn is_same_server(one: &Uri, two: &Uri) -> bool {
    let port = |uri: &Uri| {
        let usual = if uri.scheme() == Some(&Scheme::HTTPS) {
            443
        } else {
            80
        };
        uri.port_u16().unwrap_or(usual)
    };
    let host = |uri: &Uri| uri.host().map(str::to_ascii_lowercase);
    one.scheme() == two.scheme() && host(one) == host(two) && port(one) == port(two)
}

/// What finds the addresses of a server or a proxy.
type Finder = Once<DefaultResolver>;

/// To the server, through a tunnel of the proxy when there is one.
fn straight(config: Config, resolver: Finder, line: &Arc<Line>) -> Agent {
    let connector =
        ().chain(ConnectProxyConnector::default())
            .chain(Counting::new(line.clone()))
            .chain(RustlsConnector::default())
            .chain(Connected(line.clone()));
    Agent::with_parts(config, connector, resolver)
}

/// To the proxy, which is told the server with every request.
fn forwarding(
    config: Config,
    resolver: Finder,
    proxy: &Proxy,
    uri: &Uri,
    line: &Arc<Line>,
) -> Agent {
    let host = uri.host().unwrap_or_default();
    let port = uri.port_u16().map(|port| format!(":{port}"));
    let server = format!("http://{host}{}", port.unwrap_or_default());
    let connector = ().chain(Counting::new(line.clone())).chain(Forwarding { server });
    let resolver = ToProxy {
        proxy: proxy.uri().clone(),
        resolver,
    };
    Agent::with_parts(config, connector, resolver)
}
