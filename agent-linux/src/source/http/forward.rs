//! Plain HTTP over a proxy: the request goes to the proxy, with the whole address in its first line (RFC 9112, section 3.2.2).
//!
//! `ureq` has tunnels alone (`CONNECT`), which proxies mostly allow to port 443 only.

use ureq::Error;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{Buffers, ConnectionDetails, Connector, NextTimeout, Transport};

/// Finds the proxy, whatever address is asked for.
#[derive(Debug)]
pub(super) struct ToProxy<R> {
    pub proxy: Uri,
    pub resolver: R,
}

impl<R: Resolver> Resolver for ToProxy<R> {
    fn resolve(
        &self,
        _uri: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, Error> {
        self.resolver.resolve(&self.proxy, config, timeout)
    }
}

/// Makes every connection one to the proxy.
#[derive(Debug)]
pub(super) struct Forwarding {
    /// What comes before the path in the first line: scheme, host and port.
    pub server: String,
}

impl<In: Transport> Connector<In> for Forwarding {
    type Out = Forwarded<In>;

    fn connect(
        &self,
        _details: &ConnectionDetails,
        chained: Option<In>,
    ) -> Result<Option<Forwarded<In>>, Error> {
        Ok(chained.map(|connection| Forwarded {
            connection,
            server: self.server.clone(),
        }))
    }
}

/// A connection to the proxy.
#[derive(Debug)]
pub(super) struct Forwarded<T> {
    connection: T,
    server: String,
}

impl<T: Transport> Transport for Forwarded<T> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.connection.buffers()
    }

    /// All that is sent is heads of requests, each at once.
    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        let output = self.connection.buffers().output();
        let amount = insert_server(output, amount, self.server.as_bytes())
            .ok_or(Error::Io(std::io::ErrorKind::InvalidInput.into()))?;
        self.connection.transmit_output(amount, timeout)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        self.connection.await_input(timeout)
    }

    fn is_open(&mut self) -> bool {
        self.connection.is_open()
    }
}

/// Puts the server before the path of the head that is the first `amount` bytes; gives its new length.
fn insert_server(output: &mut [u8], amount: usize, server: &[u8]) -> Option<usize> {
    let path = output
        .get(..amount)?
        .iter()
        .position(|byte| *byte == b' ')?
        + 1;
    let length = amount.checked_add(server.len())?;
    let rest = output.get_mut(path..length)?;
    rest.copy_within(..amount.checked_sub(path)?, server.len());
    rest.get_mut(..server.len())?.copy_from_slice(server);
    Some(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_names_the_server() {
        let head = b"GET /b.tseal HTTP/1.1\r\nhost: h\r\n\r\n";
        let mut output = [0; 64];
        output[..head.len()].copy_from_slice(head);
        let length = insert_server(&mut output, head.len(), b"http://h:81").unwrap();
        let text = str::from_utf8(&output[..length]).unwrap();
        assert_eq!(text, "GET http://h:81/b.tseal HTTP/1.1\r\nhost: h\r\n\r\n");
        assert_eq!(
            insert_server(&mut output, 60, b"http://h:81"),
            None,
            "no room"
        );
        assert_eq!(insert_server(&mut [0; 9], 3, b"x"), None, "no head");
    }
}
