//! What this program was built with, in the words of nginx's `configure`: told once by the program itself.

use std::sync::OnceLock;

static ARGUMENTS: OnceLock<String> = OnceLock::new();

/// Tells what is built in. Only the first time counts.
pub fn tell(arguments: String) {
    let _ = ARGUMENTS.set(arguments);
}

/// What `-V` shows behind `configure arguments:`.
pub fn arguments() -> &'static str {
    ARGUMENTS.get().map_or("", String::as_str)
}
