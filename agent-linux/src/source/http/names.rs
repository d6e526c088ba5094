//! Where a server is, found once.
//!
//! `ureq` asks for the addresses of a name before each request, also of a connection that is open already. On a slow link that would
//! be a query and its round trip for each window, in bytes that no budget counts.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use ureq::Error;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

/// What was found last, and for which scheme, host and port.
type Found = Option<(String, ResolvedSocketAddrs)>;

/// What a [`Once`] knows.
#[derive(Clone, Debug, Default)]
pub(super) struct Known(Arc<Mutex<Found>>);

impl Known {
    /// Lets the next request ask anew: something failed, and the server may be elsewhere now.
    pub fn forget(&self) {
        *self.found() = None;
    }

    fn found(&self) -> MutexGuard<'_, Found> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Asks another resolver once for each server.
#[derive(Debug)]
pub(super) struct Once<R> {
    pub resolver: R,
    pub known: Known,
}

impl<R: Resolver> Resolver for Once<R> {
    fn resolve(
        &self,
        uri: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, Error> {
        let server = format!(
            "{}://{}",
            uri.scheme_str().unwrap_or_default(),
            uri.authority().map_or("", |authority| authority.as_str())
        );
        if let Some((known, addresses)) = &*self.known.found()
            && *known == server
        {
            return Ok(addresses.clone());
        }
        let addresses = self.resolver.resolve(uri, config, timeout)?;
        *self.known.found() = Some((server, addresses.clone()));
        Ok(addresses)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::SocketAddr;
    use std::sync::atomic::{AtomicU16, Ordering};

    /// Finds another port each time; the port 1 cannot be found.
    #[derive(Debug, Default)]
    struct Changing(AtomicU16);

    impl Resolver for Changing {
        fn resolve(
            &self,
            uri: &Uri,
            _config: &Config,
            _timeout: NextTimeout,
        ) -> Result<ResolvedSocketAddrs, Error> {
            if uri.port_u16() == Some(1) {
                return Err(Error::HostNotFound);
            }
            let port = self.0.fetch_add(1, Ordering::Relaxed);
            let mut found = self.empty();
            found.push(SocketAddr::from(([127, 0, 0, 1], port)));
            Ok(found)
        }
    }

    #[test]
    fn a_server_is_found_once_until_something_fails() {
        let known = Known::default();
        let once = Once {
            resolver: Changing::default(),
            known: known.clone(),
        };
        let port = |address: &str| {
            let found = once.resolve(
                &address.parse().unwrap(),
                &Config::default(),
                NextTimeout::default(),
            );
            found.map(|found| found[0].port()).ok()
        };
        assert_eq!(port("http://one/a"), Some(0));
        assert_eq!(port("http://one/b"), Some(0));
        assert_eq!(port("http://one:1/a"), None, "a failure is not kept");
        assert_eq!(port("https://one/a"), Some(1), "another server");
        assert_eq!(port("https://one/a"), Some(1));
        known.forget();
        assert_eq!(port("https://one/a"), Some(2));
    }
}
