//! From text to a generation: the main level is set here, the `http` block by its own compiler.

use crate::{
    directives::{self, KnownModules, Row},
    events,
    run::Program,
    settings::MainSettings,
};
use moonrest_core::{
    ConfigError, Contexts, Env, Log,
    conf::{self, Directive, Files, did_you_mean},
    env::Resources,
    log::{LogFile, Sink, Target},
    thread_pool,
    zone::Zones,
};
use moonrest_http::{
    compile::{Compiler, Http, Registry, check_form},
    module::DirectiveInfo,
};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

/// A configuration that can be served.
pub(crate) struct Loaded {
    pub settings: MainSettings,
    pub http: Option<Arc<Http>>,
    /// The log of the main level.
    pub log: Arc<Log>,
    pub logs: Vec<Arc<LogFile>>,
    /// To be committed when the generation takes over.
    pub zones: Zones,
    pub pid_file: PathBuf,
    /// The first file of the main log, which standard error goes to; `None` when the log is standard error.
    pub stderr_log: Option<PathBuf>,
}

/// A complaint, in nginx's line and with what a terminal shows besides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Complaint {
    pub level: conf::Level,
    pub line: String,
    /// The same with source line, caret and note.
    pub terminal: String,
}

/// What came of reading a configuration.
pub(crate) struct Outcome {
    /// `None` when there was an error.
    pub loaded: Option<Loaded>,
    /// In nginx's order: it would have stopped at the first error.
    pub complaints: Vec<Complaint>,
    pub files: Files,
}

impl Outcome {
    /// What nginx would have said: everything up to the first error.
    pub(crate) fn as_nginx(&self) -> &[Complaint] {
        let end = self.complaints.iter().position(|complaint| complaint.level.is_fatal());
        end.and_then(|end| self.complaints.get(..=end)).unwrap_or(&self.complaints)
    }
}

/// Reads and compiles the configuration. Files and logs are opened through `resources`; sockets are not opened yet.
pub(crate) fn load(program: &Program, resources: &dyn Resources) -> Outcome {
    let options = &program.options;
    let mut env = Env::new(options.prefix.clone(), options.conf_prefix(), resources);
    let names = program.registry.iter().map(|module| module.name()).collect();
    let _ = env.shared::<KnownModules>().0.set(names);
    let mut settings = MainSettings::default();
    let mut complaints = Vec::new();

    if let Some(text) = &options.params {
        let (tree, syntax) = conf::parse_param(resources, &options.conf_file, text);
        let blocks = main_level(&env, program.registry, &mut settings, &tree.directives);
        if let Some(directive) = blocks.first() {
            env.errors.borrow_mut().push(not_allowed(directive, Contexts::MAIN));
        }
        complaints = complain(syntax, env.errors.take(), &tree.files);
    }

    let (tree, syntax) = conf::parse(resources, Path::new(""), &options.conf_file);
    env.files = tree.files.iter().map(|(_, path, _)| path.to_owned()).collect();
    let http = main_level(&env, program.registry, &mut settings, &tree.directives);
    if settings.events.is_none() && syntax.is_empty() {
        env.errors.borrow_mut().push(ConfigError {
            order: u32::MAX,
            ..ConfigError::emerg("no \"events\" section in configuration")
        });
    }
    complete(&mut settings, &env);
    let loaded = finish(program, env.resources, &env, settings, &http);
    let found = env.errors.take();
    complaints.extend(complain(syntax, found, &tree.files));
    let failed = complaints.iter().any(|complaint| complaint.level.is_fatal());
    let loaded = loaded.filter(|_| !failed).map(|(settings, http, log, pid_file)| Loaded {
        stderr_log: stderr_log(program, &settings).filter(|_| !env.logs.uses_stderr()),
        settings,
        http,
        log,
        logs: env.logs.all(),
        zones: env.zones,
        pid_file,
    });
    Outcome { loaded, complaints, files: tree.files }
}

fn complain(syntax: Vec<ConfigError>, found: Vec<ConfigError>, files: &Files) -> Vec<Complaint> {
    let complaint = |error: ConfigError| Complaint {
        level: error.level,
        line: error.render(files),
        terminal: error.render_terminal(files),
    };
    ConfigError::merge(syntax, found).into_iter().map(complaint).collect()
}

type Finished = (MainSettings, Option<Arc<Http>>, Arc<Log>, PathBuf);

/// Compiles what the main level leaves to others, whatever errors there were: more may be found.
fn finish(
    program: &Program,
    resources: &dyn Resources,
    env: &Env<'_>,
    settings: MainSettings,
    http: &[&Directive],
) -> Option<Finished> {
    let options = &program.options;
    let log = Arc::new(if settings.error_log.is_empty() {
        default_log(program, resources, env)?
    } else {
        Log::new(settings.error_log.clone())
    });
    let compiled = match http {
        [] => None,
        [first, rest @ ..] => {
            for directive in rest {
                env.errors
                    .borrow_mut()
                    .push(ConfigError::emerg("\"http\" directive is duplicate").at(directive));
            }
            let compiler = Compiler::new(env, program.registry, log.clone());
            compiler.know(&directives::main_directives().iter().map(|row| row.info).collect::<Vec<_>>());
            Some(compiler.compile(first)?)
        }
    };
    let is_declared = |name: &str| settings.thread_pools.iter().any(|pool| pool.name == name);
    for (name, span) in thread_pool::unknown(env, is_declared) {
        let error = ConfigError::emerg(format!("unknown thread pool \"{name}\"")).with_span(span);
        env.errors.borrow_mut().push(ConfigError { order: u32::MAX, ..error });
    }
    let pid_file = settings.pid.clone().unwrap_or_else(|| options.prefix.join("logs/nginx.pid"));
    Some((settings, compiled.map(Arc::new), log, pid_file))
}

/// The log of a configuration that names none: the one of the command line, at level error.
fn default_log(program: &Program, resources: &dyn Resources, env: &Env<'_>) -> Option<Log> {
    let Some(path) = program.options.error_log_path() else {
        return Some(Log::stderr(moonrest_core::log::Level::Error));
    };
    match env.logs.open(&path, |path| resources.open_log(path)) {
        Ok(file) => {
            Some(Log::new(vec![Target { level: moonrest_core::log::Level::Error, sink: Sink::File(file) }]))
        }
        Err(error) => {
            let message =
                format!("open() \"{}\" failed ({})", path.display(), moonrest_core::env::os_error(&error));
            env.errors.borrow_mut().push(ConfigError { order: u32::MAX, ..ConfigError::emerg(message) });
            None
        }
    }
}

fn stderr_log(program: &Program, settings: &MainSettings) -> Option<PathBuf> {
    let targets = &settings.error_log;
    if targets.is_empty() {
        return program.options.error_log_path();
    }
    targets.iter().find_map(|target| match &target.sink {
        Sink::File(file) => Some(file.path().to_owned()),
        _ => None,
    })
}

/// Sets the main level; gives back the blocks that others compile.
fn main_level<'d>(
    env: &Env<'_>,
    registry: Registry,
    settings: &mut MainSettings,
    directives: &'d [Directive],
) -> Vec<&'d Directive> {
    let mut blocks = Vec::new();
    let known = |name: &str| registry.iter().flat_map(|m| m.directives()).find(|info| info.name == name);
    for directive in directives {
        let result = if directive.name == directives::HTTP.name {
            check_form(directive, &directives::HTTP).map(|()| blocks.push(directive))
        } else {
            check_row(directives::ROWS, Contexts::MAIN, settings, env, directive, &known)
        };
        if let Err(error) = result {
            env.errors.borrow_mut().push(error);
        }
    }
    blocks
}

/// Sets directives of one block from its table, reporting errors to the environment.
pub(crate) fn check_rows(
    rows: &[Row],
    context: Contexts,
    settings: &mut MainSettings,
    env: &Env<'_>,
    directives: &[Directive],
) {
    for directive in directives {
        if let Err(error) = check_row(rows, context, settings, env, directive, &|_| None) {
            env.errors.borrow_mut().push(error);
        }
    }
}

fn check_row(
    rows: &[Row],
    context: Contexts,
    settings: &mut MainSettings,
    env: &Env<'_>,
    directive: &Directive,
    elsewhere: &dyn Fn(&str) -> Option<DirectiveInfo>,
) -> Result<(), ConfigError> {
    let name = directive.name.as_str().unwrap_or_default();
    let own = directives::ROWS.iter().chain(events::ROWS);
    let Some(row) = rows.iter().find(|row| row.name == name && row.contexts.overlaps(context)) else {
        let other = own.clone().find(|row| row.name == name).map(Row::info).or_else(|| elsewhere(name));
        return Err(match other {
            Some(info) => not_allowed(directive, info.contexts),
            None => unknown(directive, own.map(|row| row.name)),
        });
    };
    check_form(directive, &row.info())?;
    row.apply(settings, env, directive).map_err(|fault| {
        let mut error = fault.at(name, directive.span);
        error.order = directive.order;
        error
    })
}

fn not_allowed(directive: &Directive, contexts: Contexts) -> ConfigError {
    ConfigError::emerg(format!("\"{}\" directive is not allowed here", directive.name.lossy()))
        .at(directive)
        .with_note(format!("it may stand in: {}", contexts.names().join(", ")))
}

fn unknown<'a>(directive: &Directive, names: impl Iterator<Item = &'a str>) -> ConfigError {
    let name = directive.name.lossy();
    let error = ConfigError::emerg(format!("unknown directive \"{name}\"")).at(directive);
    match did_you_mean(&name, names) {
        Some(near) => error.with_note(format!("did you mean \"{near}\"?")),
        None => error,
    }
}

/// What depends on several directives, and defaults that need the system.
fn complete(settings: &mut MainSettings, env: &Env<'_>) {
    if let Some(crate::settings::Affinity::Masks(masks)) = &settings.affinity
        && masks.len() > 1
        && masks.len() != settings.workers()
    {
        let message = "the number of \"worker_processes\" is not equal to the number of \
                           \"worker_cpu_affinity\" masks, using last mask for remaining worker processes";
        env.warn(message.to_owned(), None);
    }
    if settings.user.is_none() && env.resources.privileged() {
        let found = directives::identity(b"nobody", b"nogroup")
            .or_else(|_| directives::identity(b"nobody", b"nobody"));
        match found {
            Ok(user) => settings.user = Some(user),
            Err(fault) => env.errors.borrow_mut().push(fault.nowhere()),
        }
    }
    env.resources.set_owner(settings.user.as_ref().map(|user| (user.uid, user.gid)));
}
