//! Who can be asked: the servers of an upstream, or those that a name stands for.

use super::{
    GroupId,
    balancer::Choosing,
    define::HashKey,
    run::{Destination, Run},
    state::Called,
    tls::Secure,
};
use moonrest_core::upstream::{Method, Peer, Peers, Selection, Server, Target};
use moonrest_net::addr::Addr;
use std::{rc::Rc, sync::Arc};

/// A name that must be looked up.
pub(super) struct Unknown {
    host: Vec<u8>,
    port: u16,
}

impl Run {
    /// Finds out who can be asked, as far as that is known: otherwise gives what [`Run::look_up`] must look up.
    ///
    /// # Errors
    /// A status when nobody can.
    pub(super) fn find_peers(
        &mut self,
        destination: Destination,
        secure: bool,
    ) -> Result<Option<Unknown>, u16> {
        let id = match &destination {
            Destination::Group(id) => Some(*id),
            Destination::Dynamic { host, port, no_port, .. } => {
                self.local.main().and_then(|main| main.find(host, *port, *no_port))
            }
        };
        let known = id.and_then(|id| self.local.definition(id));
        *self.states.upstream.borrow_mut() = match (&destination, known.and(id)) {
            (_, Some(id)) => Some(Called::Group(id)),
            (Destination::Dynamic { host, .. }, None) => {
                Some(Called::Host(String::from_utf8_lossy(host).into()))
            }
            (Destination::Group(_), None) => None,
        };
        if secure {
            self.link.secure = Some(Rc::new(self.secure_link(id, &destination)?));
        }
        match (id, destination) {
            (Some(id), _) => {
                let selection = self.select_in_group(id)?;
                self.select_from(selection);
            }
            (None, Destination::Dynamic { host, port, addr, .. }) => {
                if port == 0 && !matches!(addr, Some(Addr::Unix(_))) {
                    let shown = String::from_utf8_lossy(&host);
                    crate::error!(self.r, "no port in upstream \"{shown}\"");
                    return Err(500);
                }
                let Some(addr) = addr else { return Ok(Some(Unknown { host, port })) };
                self.select_addrs(host, vec![addr]);
            }
            (None, Destination::Group(_)) => {
                crate::alert!(self.r, "no upstream configuration");
                return Err(500);
            }
        }
        Ok(None)
    }

    /// Looks up a name.
    ///
    /// # Errors
    /// A status when it has no addresses.
    pub(super) async fn look_up(&mut self, unknown: Unknown) -> Result<(), u16> {
        let Unknown { host, port } = unknown;
        let addrs = super::resolve::lookup(&self.r, &host, port).await?;
        self.select_addrs(host, addrs);
        Ok(())
    }

    fn select_addrs(&mut self, host: Vec<u8>, addrs: Vec<Addr>) {
        let server = Arc::new(Server::implicit(&host, Target::Addrs(Vec::new()), None));
        let peers = addrs.into_iter().map(|addr| Arc::new(Peer::new(addr, server.clone()))).collect();
        let peers = Peers::new(host.into(), Method::RoundRobin, peers);
        self.select_from(Selection::new(Arc::new(peers), b""));
    }

    fn select_from(&mut self, mut selection: Selection) {
        let limit = self.conf.next_upstream_tries;
        if limit != 0 {
            selection.tries = selection.tries.min(limit);
        }
        self.selection = Some(selection);
    }

    /// The way of encrypted connections.
    pub(super) fn secure_link(&self, id: Option<GroupId>, destination: &Destination) -> Result<Secure, u16> {
        let Some(tls) = &self.conf.tls else {
            crate::alert!(self.r, "no TLS configuration");
            return Err(500);
        };
        let host = match (destination, id.and_then(|id| self.local.definition(id))) {
            (_, Some(definition)) => &definition.name,
            (Destination::Dynamic { host, .. }, None) => &host[..],
            (Destination::Group(_), None) => &[],
        };
        Ok(Secure::new(&self.r, tls, host))
    }

    fn select_in_group(&mut self, id: GroupId) -> Result<Selection, u16> {
        let local = self.local.clone();
        let (Some(group), Some(definition)) = (local.group(id), local.definition(id)) else {
            crate::alert!(self.r, "no upstream configuration");
            return Err(500);
        };
        self.group = Some(id);
        if definition.balancer.is_some() {
            self.choosing = Some(Rc::new(Choosing::new(self.conf.next_upstream_tries)));
        }
        if let Some(sticky) = &definition.sticky {
            self.session = sticky.session(&self.r);
        }
        Ok(match &definition.key {
            None => group.view.select(b""),
            Some(HashKey::Template(template)) => group.view.select(&template.eval(&*self.r)),
            Some(HashKey::Client) => {
                let mut key = Vec::with_capacity(16);
                self.r.with_client(|addr| match addr {
                    Addr::Inet(_) => addr.append_binary(&mut key),
                    Addr::Unix(_) => key.extend_from_slice(&[0; 3]),
                });
                // nginx: clients of one small network go together.
                if key.len() == 4 {
                    key.truncate(3);
                }
                group.view.select(&key)
            }
        })
    }
}
