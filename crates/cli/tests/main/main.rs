//! The program from outside: options, signals, reload, upgrade, crashes.

mod instance;
mod load;
mod logs;
mod options;
mod processes;
mod reload;
mod upgrade;
