//! The server around the engine: main directives, master, serving process, workers, reload, signals, logs.
//!
//! The tables of modules come as an argument ([`Program::registry`]); nothing here names one.

mod configuration;
mod console;
mod directives;
mod events;
mod handover;
mod listeners;
mod master;

mod panics;
mod report;
mod resources;
mod run;
mod serving;
mod serving_process;
mod settings;
mod single;
mod watchdog;
mod worker;

pub use console::run as run_console;
pub use directives::{ModuleRow, main_directives};
pub use moonrest_core::Arity;
pub use run::{Mode, Options, Program, run, signal_by_name};
pub use settings::MainSettings;
