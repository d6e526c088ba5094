//! An address from the signed command line: `ADDRESS/PREFIX[,GATEWAY[,NAME-SERVER]]`.

use super::dotted::{dotted, is_somebodys};
use core::net::Ipv4Addr;
use smoltcp::wire::Ipv4Cidr;

/// How the interface gets its address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Setting {
    /// By DHCP.
    #[default]
    Dynamic,
    /// It is known.
    Fixed {
        /// Address and network.
        address: Ipv4Cidr,
        /// Who knows the way to other networks.
        gateway: Option<Ipv4Addr>,
        /// Who knows names.
        name_server: Option<Ipv4Addr>,
    },
}

impl Setting {
    /// Reads the value of `twinseal.recover.ip=`; `None` when it is no address. `dhcp` is DHCP.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if text == "dhcp" {
            return Some(Self::Dynamic);
        }
        let mut parts = text.split(',');
        let (address, prefix) = parts.next()?.split_once('/')?;
        let prefix = prefix.parse().ok().filter(|prefix| *prefix <= 32)?;
        let address = dotted(address)?;
        let mut other = || match parts.next() {
            None | Some("") => Some(None),
            Some(text) => dotted(text).filter(|one| is_somebodys(*one)).map(Some),
        };
        let (gateway, name_server) = (other()?, other()?);
        (is_somebodys(address) && parts.next().is_none()).then_some(Self::Fixed {
            address: Ipv4Cidr::new(address, prefix),
            gateway,
            name_server,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read() {
        let fixed = |gateway, name_server| {
            let address = Ipv4Cidr::new(Ipv4Addr::new(10, 0, 2, 15), 24);
            Some(Setting::Fixed {
                address,
                gateway,
                name_server,
            })
        };
        let [gateway, names] = [2, 3].map(|last| Some(Ipv4Addr::new(10, 0, 2, last)));
        assert_eq!(Setting::parse("dhcp"), Some(Setting::Dynamic));
        assert_eq!(Setting::parse("10.0.2.15/24"), fixed(None, None));
        assert_eq!(
            Setting::parse("10.0.2.15/24,10.0.2.2"),
            fixed(gateway, None)
        );
        assert_eq!(Setting::parse("10.0.2.15/24,,10.0.2.3"), fixed(None, names));
        assert_eq!(
            Setting::parse("10.0.2.15/24,10.0.2.2,10.0.2.3"),
            fixed(gateway, names)
        );
    }

    #[test]
    fn what_is_no_setting_is_refused() {
        for wrong in [
            "",
            "10.0.2.15",
            "10.0.2.15/33",
            "10.0.2.15/-1",
            "0.0.0.0/0",
            "224.0.0.1/4",
            "255.255.255.255/8",
            "10.0.2/24",
            "10.0.2.15/24,x",
            "10.0.2.15/24,0.0.0.0",
            "10.0.2.15/24,,224.0.0.1",
            "10.0.2.15/24,10.0.2.2,10.0.2.3,10.0.2.4",
        ] {
            assert_eq!(Setting::parse(wrong), None, "{wrong}");
        }
    }
}
