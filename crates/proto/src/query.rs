//! Arguments of a URI by name, as `$arg_name` finds them.
//! <https://nginx.org/en/docs/http/ngx_http_core_module.html#var_arg_>

/// The value of the first argument of this name, in any case of letters; not decoded. An argument without `=` is none.
#[must_use]
pub fn find<'a>(args: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    if name.is_empty() {
        return None;
    }
    args.split(|byte| *byte == b'&').find_map(|arg| {
        let (start, rest) = arg.split_at_checked(name.len())?;
        let value = rest.strip_prefix(b"=")?;
        start.eq_ignore_ascii_case(name).then_some(value)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(args: &str, name: &str, expect: Option<&str>) {
        assert_eq!(find(args.as_bytes(), name.as_bytes()), expect.map(str::as_bytes), "{name} of {args}");
    }

    #[test]
    fn names_match_whole_and_in_any_case() {
        check("a=1&b=2", "a", Some("1"));
        check("a=1&b=2", "b", Some("2"));
        check("A=1", "a", Some("1"));
        check("a=1", "A", Some("1"));
        check("ab=1&xa=2", "a", None);
        check("a&a=", "a", Some(""));
        check("a", "a", None);
        check("", "a", None);
        check("=x", "", None);
        check("a=1&a=2", "a", Some("1"));
        check("x=a=1", "a", None);
        check("a=b=c%20d", "a", Some("b=c%20d"));
        check("&&a=1&", "a", Some("1"));
    }
}
