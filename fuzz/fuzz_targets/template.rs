//! Values with variables, host name tables and addresses as configurations and requests bring them: no panic, and what
//! has no variable means itself.
#![no_main]

use libfuzzer_sys::fuzz_target;
use moonrest_core::{
    Template, VarId,
    cidr::{Cidr, parse_ip},
    hostnames::Hostnames,
};

fuzz_target!(|data: &[u8]| {
    let mut names = Vec::new();
    let parsed = Template::parse(data, |name| {
        names.push(name.to_owned());
        VarId(names.len() as u32)
    });
    if let Ok(template) = parsed {
        if let Some(text) = template.as_static() {
            assert!(names.is_empty() && text == data);
        }
        assert!(names.iter().all(|name| !name.is_empty()));
    }
    let _ = parse_ip(data);
    let _ = Cidr::parse(data);
    let mut table = Hostnames::default();
    let mut lines = data.split(|byte| *byte == b'\n');
    let asked = lines.next().unwrap_or_default().to_ascii_lowercase();
    for (n, line) in lines.take(64).enumerate() {
        let _ = if n % 4 == 3 { table.add_exact(line, n) } else { table.add(line, n) };
    }
    let _ = table.find(&asked);
});
