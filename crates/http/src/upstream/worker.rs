//! What one worker has of its upstreams: their state, and connections that wait.

use super::{
    Definition, GroupId, Main,
    pool::{Keeper, Pool},
};
use crate::{compile::Http, server::Queue, worker::Worker};
use moonrest_core::upstream::{Peers, View};
use std::{
    cell::RefCell,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

/// One worker's upstreams.
pub(crate) struct Local {
    /// The compiled upstreams.
    main: Option<Arc<Main>>,
    groups: Box<[Group]>,
    quitting: Arc<AtomicBool>,
    pub(super) keeper: Keeper,
    /// Memory for requests and for heads of answers, used again.
    memory: RefCell<Vec<(Queue, Vec<u8>)>>,
}

/// One upstream as this worker sees it.
pub(super) struct Group {
    /// Its own, or those of all workers.
    pub peers: Arc<Peers>,
    pub view: View,
    pub pool: Pool,
    /// Connections that its balancer keeps.
    pub kept: Pool,
}

/// An upstream as a worker sees it.
pub struct Known {
    /// With the port, if that is part of it.
    pub name: String,
    /// It is a block, not just a name.
    pub explicit: bool,
    /// The zone that makes it common to all workers.
    pub zone: Option<String>,
    pub peers: Arc<Peers>,
}

/// The upstreams of a worker, in the order of the configuration.
pub fn of_worker(worker: &Worker) -> Vec<Known> {
    let local = worker.upstreams();
    let definitions = local.main().map_or(&[][..], |main| &main.definitions);
    let known = |(definition, group): (&Definition, &Group)| Known {
        name: definition.full_name().to_string(),
        explicit: definition.explicit,
        zone: definition.zone.clone(),
        peers: group.peers.clone(),
    };
    definitions.iter().zip(&local.groups).map(known).collect()
}

/// Memory kept for reuse, of each kind.
const KEPT: usize = 64;
const KEPT_BYTES: usize = 64 * 1024;

impl Local {
    pub(crate) fn new(http: &Arc<Http>, quitting: &Arc<AtomicBool>) -> Rc<Self> {
        let main = http.mains.iter().find_map(|main| main.clone().downcast::<Main>().ok());
        let definitions = main.as_ref().map_or(&[][..], |main| &main.definitions);
        let group = |definition: &Definition| {
            let peers = definition.peers.clone()?;
            let peers = if definition.zone.is_some() { peers } else { Arc::new(peers.detached()) };
            Some(Group {
                view: View::new(peers.clone()),
                peers,
                pool: Pool::default(),
                kept: Pool::default(),
            })
        };
        let groups = definitions.iter().filter_map(group).collect();
        Rc::new(Self {
            main,
            groups,
            quitting: quitting.clone(),
            keeper: Keeper::default(),
            memory: RefCell::default(),
        })
    }

    pub(super) fn is_quitting(&self) -> bool {
        self.quitting.load(Relaxed)
    }

    /// The compiled upstreams.
    pub(super) fn main(&self) -> Option<&Main> {
        self.main.as_deref()
    }

    pub(super) fn definition(&self, id: GroupId) -> Option<&Definition> {
        self.main()?.definitions.get(id.0 as usize)
    }

    pub(super) fn group(&self, id: GroupId) -> Option<&Group> {
        self.groups.get(id.0 as usize)
    }

    pub(super) fn pools(&self, mut f: impl FnMut(&Pool)) {
        for group in &self.groups {
            f(&group.pool);
            f(&group.kept);
        }
    }

    pub(super) fn take_memory(&self) -> (Queue, Vec<u8>) {
        self.memory.borrow_mut().pop().unwrap_or_default()
    }

    pub(super) fn give_memory(&self, mut queue: Queue, input: Vec<u8>) {
        let mut memory = self.memory.borrow_mut();
        if queue.clear().saturating_add(input.capacity()) <= KEPT_BYTES && memory.len() < KEPT {
            memory.push((queue, input));
        }
    }
}
