//! What only a process with one thread can do: fork, daemonize, receive signals, change its title and user.
//!
//! Each test runs in a process of its own. Without arguments all run; arguments select by a part of the name.
#![allow(unsafe_code, clippy::unwrap_used, clippy::print_stdout)]

mod daemon;
mod fork;
mod identity;
mod signals;
mod title;
mod zone;

use std::io::Write as _;
use std::process::ExitCode;

use moonrest_sys::process::{self, ExitStatus};

/// Name and function of each.
const TESTS: &[(&str, fn())] = &[
    ("fork::a_childs_number_is_its_exit_code", fork::a_childs_number_is_its_exit_code),
    ("fork::a_panic_ends_the_child_as_fatal", fork::a_panic_ends_the_child_as_fatal),
    ("fork::ended_children_are_taken_one_by_one", fork::ended_children_are_taken_one_by_one),
    ("fork::a_child_dies_with_its_parent", fork::a_child_dies_with_its_parent),
    ("fork::descriptors_cross_to_a_child", fork::descriptors_cross_to_a_child),
    ("fork::limits_are_set", fork::limits_are_set),
    ("fork::threads_forbid_forking", fork::threads_forbid_forking),
    ("daemon::the_parent_tells_the_outcome", daemon::the_parent_tells_the_outcome),
    ("daemon::a_daemon_has_no_terminal", daemon::a_daemon_has_no_terminal),
    ("daemon::standard_descriptors_are_filled", daemon::standard_descriptors_are_filled),
    ("signals::senders_are_known", signals::senders_are_known),
    ("signals::a_flood_loses_no_kind", signals::a_flood_loses_no_kind),
    ("signals::children_have_their_own", signals::children_have_their_own),
    ("signals::ended_children_are_announced", signals::ended_children_are_announced),
    ("signals::programs_start_with_nothing_blocked", signals::programs_start_with_nothing_blocked),
    ("title::ps_shows_it", title::ps_shows_it),
    ("title::the_environment_survives", title::the_environment_survives),
    ("identity::root_becomes_somebody", identity::root_becomes_somebody),
    ("identity::a_capability_can_be_kept", identity::a_capability_can_be_kept),
    ("identity::privileges_can_be_renounced", identity::privileges_can_be_renounced),
    ("zone::local_time_follows_the_variable", zone::local_time_follows_the_variable),
];

fn main() -> ExitCode {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let mut failed = 0;
    for (name, test) in TESTS {
        if !wanted.is_empty() && !wanted.iter().any(|part| name.contains(part.as_str())) {
            continue;
        }
        print!("test {name} ... ");
        std::io::stdout().flush().unwrap();
        let child = process::fork_child(|| {
            test();
            0
        });
        let status = process::wait(child.unwrap()).unwrap();
        if status == ExitStatus::Code(0) {
            println!("ok");
        } else {
            println!("FAILED: {status}");
            failed += 1;
        }
    }
    println!("test result: {} failed", failed);
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
