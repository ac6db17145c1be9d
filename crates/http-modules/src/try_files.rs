//! `try_files`: the first of several files that exists, or somewhere else.
//! <https://nginx.org/en/docs/http/ngx_http_core_module.html#try_files>

use moonrest_http::{compile::BlockId, core::map_path_into, open_file, prelude::*};

/// Chooses among files.
pub struct TryFiles;

impl HttpModule for TryFiles {
    const NAME: &'static str = "ngx_http_try_files_module";
    const DIRECTIVES: &'static [Directive<Self>] =
        &[Directive::loc("try_files", Arity::at_least(2), set)
            .within(Contexts::SERVER.or(Contexts::LOCATION))];
    type Main = ();
    type Loc = Loc;

    fn attach(_main: &(), loc: &Arc<Loc>, to: &mut LocationBuilder<'_>) -> ConfResult {
        // nginx: not inherited, not even by an `if`.
        if let Some((block, choice)) = &loc.choice
            && *block == to.block
        {
            to.on(Phase::Precontent, Handler { choice: choice.clone() });
        }
        Ok(())
    }
}

/// What one block says, and which block that is.
#[derive(Clone, Default)]
pub struct Loc {
    choice: Option<(BlockId, Arc<Choice>)>,
}

impl Inherit for Loc {
    fn inherit(&mut self, _outer: &Self) {}
}

#[derive(Debug)]
struct Choice {
    files: Box<[Candidate]>,
    otherwise: Otherwise,
}

#[derive(Debug)]
struct Candidate {
    name: Template,
    /// Written with a final slash: only a directory will do.
    directory: bool,
}

#[derive(Debug)]
enum Otherwise {
    Status(u16),
    /// A path, or a named location.
    Uri(Template),
}

fn set(loc: &mut Loc, args: &Args<'_>) -> ConfResult {
    if loc.choice.is_some() {
        return Err(Fault::DUPLICATE);
    }
    let last = args.len() - 1;
    let mut files = Vec::with_capacity(last);
    for n in 0..last {
        let word = args.word(n)?;
        let (text, directory) = match word.text.strip_suffix(b"/") {
            Some(text) => (text, true),
            None => (&*word.text, false),
        };
        let name = Template::parse(text, |name| args.vars.reference(name, Some(word.span)))?;
        files.push(Candidate { name, directory });
    }
    let otherwise = match args.bytes(last)?.strip_prefix(b"=") {
        Some(code) => match moonrest_core::conf::value::parse_uint(code) {
            Some(code) if code <= 999 => Otherwise::Status(u16::try_from(code).unwrap_or(500)),
            _ => return Err(Fault::message(format!("invalid code \"{}\"", args.lossy(last)))),
        },
        None => Otherwise::Uri(args.template(last)?),
    };
    loc.choice = Some((args.block, Arc::new(Choice { files: files.into(), otherwise })));
    Ok(())
}

struct Handler {
    choice: Arc<Choice>,
}

impl PhaseHandler for Handler {
    fn handle(&self, r: &RequestRef) -> Result<Step, RequestError> {
        let mut path = Vec::with_capacity(128);
        let Some(root) = map_path_into(r, &mut path) else { return Step::finish(500) };
        for file in &self.choice.files {
            path.truncate(root);
            append_name(r, &file.name, &mut path);
            if path.contains(&0) {
                continue;
            }
            match open_file::test(r, &path) {
                Ok(stat) if stat.is_dir() == file.directory => {
                    choose(r, path.get(root..).unwrap_or_default(), file.directory);
                    return Step::next();
                }
                Ok(_) => {}
                Err(failure) if failure.is_not_found() => {}
                Err(failure) => failure.log(r, Level::Crit, &path),
            }
        }
        match &self.choice.otherwise {
            Otherwise::Status(status) => Step::finish(*status),
            Otherwise::Uri(uri) => {
                path.truncate(root);
                append_name(r, uri, &mut path);
                go_to(r, path.get(root..).unwrap_or_default());
                Ok(Step::Now(Flow::Redirected))
            }
        }
    }
}

/// Appends a name's value. Below an alias the location's own name at its beginning goes away, since the alias stands
/// for it.
fn append_name(r: &Request, name: &Template, path: &mut Vec<u8>) {
    let start = path.len();
    name.append(r, path);
    let root = &r.loc().core.root;
    let (true, Some(len)) = (root.alias, root.replaces) else { return };
    if name.as_static().is_some() {
        return;
    }
    let uri = r.uri();
    let location = uri.get(..len).unwrap_or_default();
    if path.get(start..).is_some_and(|value| value.starts_with(location)) {
        path.drain(start..start + location.len());
    }
}

/// The request goes on with the file that was found: `name` is its path below `root` or `alias`.
fn choose(r: &Request, name: &[u8], directory: bool) {
    let root = &r.loc().core.root;
    let mut uri = r.uri.borrow_mut();
    match (root.alias, root.replaces) {
        (false, _) => {
            uri.clear();
            uri.extend_from_slice(name);
        }
        (true, Some(len)) => {
            uri.truncate(len);
            uri.extend_from_slice(name);
        }
        (true, None) if !directory => {
            uri.clear();
            uri.extend_from_slice(name);
            r.add_uri_to_alias.set(true);
        }
        (true, None) => {}
    }
}

fn go_to(r: &Request, target: &[u8]) {
    if target.starts_with(b"@") {
        r.redirect_to_named(target);
        return;
    }
    let (path, args) = match target.iter().position(|byte| *byte == b'?') {
        Some(at) => (target.get(..at).unwrap_or_default(), target.get(at + 1..).unwrap_or_default()),
        None => (target, &[][..]),
    };
    r.redirect_internally(path, args);
}
