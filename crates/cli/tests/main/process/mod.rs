//! The program as an administrator has it: a daemon with options, signals, reload, upgrade and crashes.

mod endings;
mod health;
mod instance;
mod limits;
mod load;
mod logs;
mod options;
mod reload;
mod resty;
mod upgrade;
