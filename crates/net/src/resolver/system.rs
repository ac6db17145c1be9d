//! What the machine itself knows of names: `/etc/resolv.conf` and `/etc/hosts`.

use super::Settings;
use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    rc::Rc,
};

/// The port of name servers.
const PORT: u16 = 53;
/// As in the C library.
const MAX_SEARCH: usize = 6;

/// Names that need no question, and domains that short names are looked for in.
#[derive(Debug, Default)]
pub struct System {
    hosts: HashMap<Box<str>, Vec<IpAddr>>,
    search: Vec<Box<str>>,
    /// A name with this many dots is first tried as it is.
    dots: usize,
}

/// The servers of a `resolv.conf`.
pub fn servers(text: &str) -> Vec<SocketAddr> {
    let lines = text.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        (words.next() == Some("nameserver")).then(|| words.next()).flatten()
    });
    // A zone (`fe80::1%eth0`) has no place in an address; such servers are left out.
    lines.filter_map(|word| word.parse().ok()).map(|ip: IpAddr| SocketAddr::new(ip, PORT)).collect()
}

impl System {
    /// What the texts of `resolv.conf` and `hosts` say.
    pub fn new(resolv_conf: &str, hosts: &str) -> Self {
        let mut system = Self { dots: 1, ..Self::default() };
        for line in resolv_conf.lines() {
            let mut words = line.split_ascii_whitespace();
            match words.next() {
                // The last of these lines counts.
                Some("search" | "domain") => {
                    let domain =
                        |word: &str| word.trim_end_matches('.').to_ascii_lowercase().into_boxed_str();
                    system.search =
                        words.map(domain).filter(|word| !word.is_empty()).take(MAX_SEARCH).collect();
                }
                Some("options") => {
                    let dots = words.filter_map(|word| word.strip_prefix("ndots:")?.parse().ok()).next_back();
                    system.dots = dots.unwrap_or(system.dots).min(15);
                }
                _ => {}
            }
        }
        for line in hosts.lines() {
            let mut words = line.split('#').next().unwrap_or_default().split_ascii_whitespace();
            let Some(ip) = words.next().and_then(|word| word.parse::<IpAddr>().ok()) else { continue };
            for name in words {
                let ips = system.hosts.entry(name.to_ascii_lowercase().into()).or_default();
                if !ips.contains(&ip) {
                    ips.push(ip);
                }
            }
        }
        system
    }

    /// The addresses that `hosts` has for a name, of the families asked for.
    pub(super) fn host(&self, name: &str, settings: &Settings) -> Option<Rc<[IpAddr]>> {
        let wanted = |ip: &&IpAddr| if ip.is_ipv4() { settings.ipv4 } else { settings.ipv6 };
        let ips: Rc<[IpAddr]> = self.hosts.get(name)?.iter().filter(wanted).copied().collect();
        (!ips.is_empty()).then_some(ips)
    }

    /// The full names that a name may stand for, in the order in which they are tried.
    pub(super) fn candidates(&self, name: &Rc<str>) -> Vec<Rc<str>> {
        let longer = self.search.iter().map(|domain| Rc::from(format!("{name}.{domain}")));
        if name.matches('.').count() >= self.dots {
            std::iter::once(name.clone()).chain(longer).collect()
        } else {
            longer.chain(std::iter::once(name.clone())).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolv_conf_gives_servers_domains_and_dots() {
        let text = "# none\nnameserver 127.0.0.53\nnameserver ::1\nnameserver fe80::1%eth0\n\
                    search Example.net. example.org\noptions edns0 ndots:2 timeout:1\n";
        assert_eq!(servers(text), ["127.0.0.53:53".parse().unwrap(), "[::1]:53".parse().unwrap()]);
        let system = System::new(text, "");
        let of = |name: &str| system.candidates(&name.into()).join(" ");
        assert_eq!(of("a.b"), "a.b.example.net a.b.example.org a.b");
        assert_eq!(of("a.b.c"), "a.b.c a.b.c.example.net a.b.c.example.org");
    }

    #[test]
    fn hosts_give_addresses_of_the_families_asked_for() {
        let system = System::new("", "127.0.0.1 localhost Here # one\n::1 localhost\nbad line\n");
        let mut settings = Settings::new(Vec::new());
        let count = |settings: &Settings, name: &str| system.host(name, settings).map_or(0, |ips| ips.len());
        assert_eq!((count(&settings, "localhost"), count(&settings, "here")), (2, 1));
        settings.ipv4 = false;
        assert_eq!((count(&settings, "localhost"), count(&settings, "here")), (1, 0));
        assert_eq!(count(&settings, "one"), 0);
    }
}
