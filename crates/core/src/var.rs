//! Variables: declared by modules, referenced by number, computed for a subject (a request or a session).
//!
//! A value is appended to the caller's buffer, so that a template or a log line is built without intermediate copies.
//! Values that must not be computed twice (`set`, `map`, `geo`, captures) live in the subject's [`Slots`].

use crate::{
    ConfResult, Fault,
    regex::{Groups, Regex},
};
use hashbrown::HashMap;
use moonrest_conf::Span;
use std::{cell::Cell, cell::RefCell, rc::Rc, sync::Arc};

/// A variable's number in its [`VarTable`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, PartialOrd, Ord)]
pub struct VarId(pub u32);

/// A computed value that is kept.
pub type Value = Rc<[u8]>;

/// Appends the value; `false` means "not found".
pub type GetFn<S> = fn(&S, &mut Vec<u8>) -> bool;
/// The same for a family such as `$arg_`, given what follows the prefix.
pub type PrefixFn<S> = fn(&S, &[u8], &mut Vec<u8>) -> bool;
/// Takes a value assigned by `set` or by Lua. `None` takes it away.
pub type SetFn<S> = fn(&S, Option<&[u8]>);
/// A getter that carries settings (`map`, `geo`, `split_clients`).
pub type DynGet<S> = Arc<dyn Fn(&S, &mut Vec<u8>) -> bool + Send + Sync>;

/// What variables are computed for: an HTTP request or a stream session.
pub trait Subject: Sized + 'static {
    /// The table of the generation it runs on.
    fn vars(&self) -> &VarTable<Self>;
    /// Values kept for it.
    fn slots(&self) -> &RefCell<Slots>;
    /// Appends capture `n` of the last regular expression that matched.
    fn capture(&self, n: usize, out: &mut Vec<u8>) -> bool;
    /// Remembers the groups of a regular expression that matched `text`, for `$1` and the variables of named groups.
    fn keep_captures(&self, text: &[u8], groups: Groups, names: &[(VarId, usize)]);
    /// Reports a read of a variable that has no value (`uninitialized_variable_warn`) or a cycle.
    fn warn(&self, message: &str);
    /// A rule could not be decided: what it stands for must fail, lest it be got round.
    fn rule_failed(&self, message: &str);
}

/// How a variable is computed.
pub enum Getter<S> {
    Fn(GetFn<S>),
    Prefix(PrefixFn<S>, Box<[u8]>),
    Dyn(DynGet<S>),
    /// Only what was stored: `set`, named captures. Unset reads as not found.
    Slot,
}

impl<S> Clone for Getter<S> {
    fn clone(&self) -> Self {
        match self {
            Self::Fn(get) => Self::Fn(*get),
            Self::Prefix(get, name) => Self::Prefix(*get, name.clone()),
            Self::Dyn(get) => Self::Dyn(get.clone()),
            Self::Slot => Self::Slot,
        }
    }
}

/// A variable as a module declares it.
pub struct Variable<S> {
    pub name: Box<str>,
    pub get: Getter<S>,
    pub set: Option<SetFn<S>>,
    /// May be declared again, or assigned by `set` (nginx's "changeable").
    pub changeable: bool,
    /// Its first computed value is kept for the subject.
    pub cacheable: bool,
}

impl<S> Clone for Variable<S> {
    fn clone(&self) -> Self {
        Self {
            name: self.name.clone(),
            get: self.get.clone(),
            set: self.set,
            changeable: self.changeable,
            cacheable: self.cacheable,
        }
    }
}

/// A row of a module's static table of variables.
pub struct VarDef<S: 'static> {
    /// The name without `$`; a family's ends with `_` and has a [`PrefixFn`].
    pub name: &'static str,
    pub get: StaticGet<S>,
    pub set: Option<SetFn<S>>,
    pub changeable: bool,
    /// The first computed value is kept.
    pub cacheable: bool,
}

/// The getter of a [`VarDef`].
pub enum StaticGet<S: 'static> {
    Fn(GetFn<S>),
    Prefix(PrefixFn<S>),
    Slot,
}

impl<S> VarDef<S> {
    /// A read-only variable.
    pub const fn get(name: &'static str, get: GetFn<S>) -> Self {
        Self { name, get: StaticGet::Fn(get), set: None, changeable: false, cacheable: false }
    }
    /// A read-only variable whose first value is kept, because it must not change or costs much.
    pub const fn kept(name: &'static str, get: GetFn<S>) -> Self {
        Self { name, get: StaticGet::Fn(get), set: None, changeable: false, cacheable: true }
    }
    /// A variable that `set` and Lua may assign through `set`.
    pub const fn get_set(name: &'static str, get: GetFn<S>, set: SetFn<S>) -> Self {
        Self { name, get: StaticGet::Fn(get), set: Some(set), changeable: true, cacheable: false }
    }
    /// A read-only family, `name` being its prefix.
    pub const fn prefix(name: &'static str, get: PrefixFn<S>) -> Self {
        Self { name, get: StaticGet::Prefix(get), set: None, changeable: false, cacheable: false }
    }
    /// A stored value that a module writes with [`Slots::set`].
    pub const fn slot(name: &'static str) -> Self {
        Self { name, get: StaticGet::Slot, set: None, changeable: true, cacheable: true }
    }
}

struct Entry<S> {
    variable: Option<Variable<S>>,
    name: Box<str>,
    /// Some `set` assigns it, so that kept values come before its getter.
    assigned: bool,
    /// What it reads as when nothing but `set` declares it and it belongs to no family.
    unset: Option<DynGet<S>>,
    /// Where it was first referenced.
    used: Option<Span>,
}

/// The table while a configuration is compiled: names become numbers before all of them are declared.
pub struct Variables<S> {
    inner: RefCell<Inner<S>>,
}

struct Inner<S> {
    entries: Vec<Entry<S>>,
    by_name: HashMap<Box<str>, VarId>,
    prefixes: Vec<(&'static str, PrefixFn<S>)>,
}

impl<S: Subject> Default for Variables<S> {
    fn default() -> Self {
        Self {
            inner: RefCell::new(Inner { entries: Vec::new(), by_name: HashMap::new(), prefixes: Vec::new() }),
        }
    }
}

impl<S: Subject> Variables<S> {
    /// Declares a module's static table.
    pub fn declare(&self, defs: &[VarDef<S>]) {
        for def in defs {
            let get = match def.get {
                StaticGet::Prefix(get) => {
                    self.inner.borrow_mut().prefixes.push((def.name, get));
                    continue;
                }
                StaticGet::Fn(get) => Getter::Fn(get),
                StaticGet::Slot => Getter::Slot,
            };
            let id = self.intern(def.name, None);
            self.inner.borrow_mut().entries[id.0 as usize].variable = Some(Variable {
                name: def.name.into(),
                cacheable: def.cacheable,
                get,
                set: def.set,
                changeable: def.changeable,
            });
        }
    }

    /// Declares one variable by configuration (`map`, `geo`, `set`, a named capture).
    ///
    /// # Errors
    /// `the duplicate "name" variable` when it exists and is not changeable.
    pub fn define(&self, variable: Variable<S>) -> ConfResult<VarId> {
        let name = variable.name.to_ascii_lowercase();
        let id = self.intern(&name, None);
        let mut inner = self.inner.borrow_mut();
        let entry = &mut inner.entries[id.0 as usize];
        match &mut entry.variable {
            Some(old) if !old.changeable => {
                return Err(Fault::message(format!("the duplicate \"{name}\" variable")));
            }
            // nginx: a later declaration wins, except that a plain slot never hides a computed value.
            Some(old) => {
                if !matches!(variable.get, Getter::Slot) {
                    let set = variable.set.or(old.set);
                    *old = Variable { set, ..variable };
                }
            }
            none => *none = Some(variable),
        }
        Ok(id)
    }

    /// Declares a variable that only `set`, captures or modules store into.
    ///
    /// # Errors
    /// As [`Variables::define`].
    pub fn define_slot(&self, name: &str) -> ConfResult<VarId> {
        self.define(Variable {
            name: name.into(),
            get: Getter::Slot,
            set: None,
            changeable: true,
            cacheable: true,
        })
    }

    /// Declares a variable that `set` assigns. One that exists keeps its getter; one that nobody else declares, and
    /// that belongs to no family, reads as `unset` before its first assignment.
    ///
    /// # Errors
    /// As [`Variables::define`].
    pub fn define_assigned(&self, name: &str, unset: DynGet<S>) -> ConfResult<VarId> {
        let name = name.to_ascii_lowercase();
        let id = self.intern(&name, None);
        let mut inner = self.inner.borrow_mut();
        let entry = &mut inner.entries[id.0 as usize];
        if entry.variable.as_ref().is_some_and(|known| !known.changeable) {
            return Err(Fault::message(format!("the duplicate \"{name}\" variable")));
        }
        entry.assigned = true;
        entry.unset = Some(unset);
        Ok(id)
    }

    /// Declares the variables of an expression's named groups.
    ///
    /// # Errors
    /// As [`Variables::define`].
    pub fn define_captures(&self, regex: &Regex) -> ConfResult<Box<[(VarId, usize)]>> {
        regex.names().iter().map(|(name, group)| Ok((self.define_slot(name)?, *group))).collect()
    }

    /// The number of a referenced variable; whether it exists is checked by [`Variables::finish`].
    pub fn reference(&self, name: &str, span: Option<Span>) -> VarId {
        self.intern(&name.to_ascii_lowercase(), span)
    }

    fn intern(&self, name: &str, span: Option<Span>) -> VarId {
        let mut inner = self.inner.borrow_mut();
        if let Some(&id) = inner.by_name.get(name) {
            let used = &mut inner.entries[id.0 as usize].used;
            *used = used.or(span);
            return id;
        }
        let id = VarId(u32::try_from(inner.entries.len()).unwrap_or(u32::MAX));
        inner.entries.push(Entry {
            variable: None,
            name: name.into(),
            assigned: false,
            unset: None,
            used: span,
        });
        inner.by_name.insert(name.into(), id);
        id
    }

    /// Ends the compilation: every referenced name must be declared or belong to a family.
    ///
    /// # Errors
    /// One `unknown "name" variable` per missing name, with the place of its first use.
    pub fn finish(self) -> Result<VarTable<S>, Vec<(String, Option<Span>)>> {
        let Inner { entries, by_name, mut prefixes } = self.inner.into_inner();
        prefixes.sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.len()));
        let mut unknown = Vec::new();
        let mut variables = Vec::with_capacity(entries.len());
        for entry in entries {
            let unset = entry.unset.map(|unset| assigned_only(&entry.name, unset));
            let found = entry.variable.or_else(|| family(&prefixes, &entry.name)).or(unset);
            match found {
                Some(variable) if entry.assigned => variables.push(assignable(variable)),
                Some(variable) => variables.push(variable),
                None => unknown.push((format!("unknown \"{}\" variable", entry.name), entry.used)),
            }
        }
        if unknown.is_empty() { Ok(VarTable { variables, by_name, prefixes }) } else { Err(unknown) }
    }
}

fn family<S>(prefixes: &[(&'static str, PrefixFn<S>)], name: &str) -> Option<Variable<S>> {
    let (prefix, get) = prefixes.iter().find(|(prefix, _)| name.starts_with(prefix))?;
    let rest = name.as_bytes().get(prefix.len()..)?;
    Some(Variable {
        name: name.into(),
        get: Getter::Prefix(*get, rest.into()),
        set: None,
        changeable: false,
        cacheable: false,
    })
}

/// A variable that nothing but `set` knows.
fn assigned_only<S>(name: &str, unset: DynGet<S>) -> Variable<S> {
    Variable { name: name.into(), get: Getter::Dyn(unset), set: None, changeable: true, cacheable: true }
}

/// The same variable with a getter that comes after a kept value.
fn assignable<S: Subject>(variable: Variable<S>) -> Variable<S> {
    if variable.set.is_some() {
        return variable;
    }
    let get: DynGet<S> = match variable.get {
        Getter::Fn(get) => Arc::new(get),
        Getter::Prefix(get, name) => Arc::new(move |subject: &S, out: &mut Vec<u8>| get(subject, &name, out)),
        Getter::Dyn(_) | Getter::Slot => return variable,
    };
    Variable { get: Getter::Dyn(get), ..variable }
}

/// The variables of one generation.
pub struct VarTable<S> {
    variables: Vec<Variable<S>>,
    by_name: HashMap<Box<str>, VarId>,
    prefixes: Vec<(&'static str, PrefixFn<S>)>,
}

thread_local! {
    static DEPTH: Cell<u32> = const { Cell::new(0) };
    /// A cycle was found: what is being evaluated comes to nothing.
    static CYCLE: Cell<bool> = const { Cell::new(false) };
}

/// nginx gives up after the same number of nested evaluations.
const MAX_DEPTH: u32 = 100;

impl<S: Subject> VarTable<S> {
    /// Appends the value of `id`; `false` when it has none.
    pub fn append(&self, subject: &S, id: VarId, out: &mut Vec<u8>) -> bool {
        let Some(variable) = self.variables.get(id.0 as usize) else { return false };
        match &variable.get {
            Getter::Fn(get) if !variable.cacheable => get(subject, out),
            Getter::Prefix(get, name) => get(subject, name, out),
            _ => self.append_kept(subject, id, variable, out),
        }
    }

    fn append_kept(&self, subject: &S, id: VarId, variable: &Variable<S>, out: &mut Vec<u8>) -> bool {
        match subject.slots().borrow().get(id) {
            Some(Slot::Found(value)) => {
                out.extend_from_slice(value);
                return true;
            }
            Some(Slot::NotFound) => return false,
            None => {}
        }
        if CYCLE.get() {
            return false;
        }
        if DEPTH.get() >= MAX_DEPTH {
            // Found once, it ends the whole evaluation: each level may name the cycle several times.
            CYCLE.set(true);
            subject.warn(&format!("cycle while evaluating variable \"{}\"", variable.name));
            return false;
        }
        let deeper = Deeper::enter();
        let start = out.len();
        let found = match &variable.get {
            Getter::Fn(get) => get(subject, out),
            Getter::Prefix(get, name) => get(subject, name, out),
            Getter::Dyn(get) => get(subject, out),
            Getter::Slot => false,
        };
        let keep = variable.cacheable && !CYCLE.get() && !matches!(variable.get, Getter::Slot);
        drop(deeper);
        if keep {
            let value = found.then(|| Rc::from(out.get(start..).unwrap_or_default()));
            subject.slots().borrow_mut().set(id, value);
        }
        found
    }

    /// The value as bytes of its own.
    pub fn get(&self, subject: &S, id: VarId) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        self.append(subject, id, &mut out).then_some(out)
    }

    /// The number of a variable by its name, for Lua, SSI and the like.
    pub fn find(&self, name: &str) -> Option<VarId> {
        self.by_name.get(name).copied()
    }

    /// Appends a variable's value by name, families included.
    pub fn append_by_name(&self, subject: &S, name: &str, out: &mut Vec<u8>) -> bool {
        if let Some(id) = self.find(name) {
            return self.append(subject, id, out);
        }
        let Some((prefix, get)) = self.prefixes.iter().find(|(prefix, _)| name.starts_with(prefix)) else {
            return false;
        };
        get(subject, name.as_bytes().get(prefix.len()..).unwrap_or_default(), out)
    }

    /// The declaration of a variable.
    pub fn variable(&self, id: VarId) -> Option<&Variable<S>> {
        self.variables.get(id.0 as usize)
    }

    /// Assigns a value, through the variable's own setter if it has one.
    pub fn assign(&self, subject: &S, id: VarId, value: Option<&[u8]>) {
        match self.variables.get(id.0 as usize).and_then(|variable| variable.set) {
            Some(set) => set(subject, value),
            None => subject.slots().borrow_mut().set(id, value.map(Rc::from)),
        }
    }
}

/// One level of variables that need each other; left even by a panic, which would be felt by all later requests.
struct Deeper(());

impl Deeper {
    fn enter() -> Self {
        DEPTH.set(DEPTH.get() + 1);
        Self(())
    }
}

impl Drop for Deeper {
    fn drop(&mut self) {
        DEPTH.set(DEPTH.get() - 1);
        if DEPTH.get() == 0 {
            CYCLE.set(false);
        }
    }
}

/// A kept value.
#[derive(Clone, Debug)]
pub enum Slot {
    NotFound,
    Found(Value),
}

/// The values kept for one subject. Clearing costs only what was set.
#[derive(Default)]
pub struct Slots {
    slots: Vec<Option<Slot>>,
    set: Vec<VarId>,
}

impl Slots {
    /// What is kept for `id`.
    pub fn get(&self, id: VarId) -> Option<&Slot> {
        self.slots.get(id.0 as usize)?.as_ref()
    }

    /// Keeps a value, or the knowledge that there is none.
    pub fn set(&mut self, id: VarId, value: Option<Value>) {
        let index = id.0 as usize;
        if self.slots.len() <= index {
            self.slots.resize(index + 1, None);
        }
        let slot = &mut self.slots[index];
        if slot.is_none() {
            self.set.push(id);
        }
        *slot = Some(value.map_or(Slot::NotFound, Slot::Found));
    }

    /// Forgets one value, so that it is computed again.
    pub fn forget(&mut self, id: VarId) {
        if let Some(slot) = self.slots.get_mut(id.0 as usize) {
            *slot = None;
        }
    }

    /// Forgets everything.
    #[inline]
    pub fn clear(&mut self) {
        if self.set.is_empty() {
            return;
        }
        for id in self.set.drain(..) {
            if let Some(slot) = self.slots.get_mut(id.0 as usize) {
                *slot = None;
            }
        }
    }

    /// A copy for a subrequest that starts from its parent's values.
    pub fn copy_from(&mut self, other: &Self) {
        self.slots.clone_from(&other.slots);
        self.set.clone_from(&other.set);
    }
}
