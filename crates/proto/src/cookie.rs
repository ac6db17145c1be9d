//! Cookies by name, as `$cookie_name` and `$upstream_cookie_name` find them.
//! <https://nginx.org/en/docs/http/ngx_http_core_module.html#var_cookie_>

/// The value of the first cookie of this name in the values of `Cookie` fields; names match in any case of letters.
#[must_use]
pub fn find<'a>(fields: impl IntoIterator<Item = &'a [u8]>, name: &[u8]) -> Option<&'a [u8]> {
    find_parameter(fields, name, b';')
}

/// `name=value` among the parameters of fields, separated by `;` (cookies) or `,` (other lists).
#[must_use]
pub fn find_parameter<'a>(
    fields: impl IntoIterator<Item = &'a [u8]>,
    name: &[u8],
    separator: u8,
) -> Option<&'a [u8]> {
    fields.into_iter().find_map(|field| find_in_field(field, name, separator))
}

fn find_in_field<'a>(field: &'a [u8], name: &[u8], separator: u8) -> Option<&'a [u8]> {
    let mut rest = field;
    while !rest.is_empty() {
        let start = rest.split_at_checked(name.len());
        if let Some((_, behind)) = start.filter(|(start, _)| start.eq_ignore_ascii_case(name)) {
            rest = skip_spaces(behind);
            match rest {
                [b'=', value @ ..] => {
                    let value = skip_spaces(value);
                    return value.split(|byte| *byte == separator).next();
                }
                // nginx: if it is the separator that stands in place of the `=`, the parameter behind it is skipped.
                [_, behind @ ..] => rest = behind,
                [] => return None,
            }
        }
        let next = memchr::memchr(separator, rest)?;
        rest = skip_spaces(rest.get(next + 1..).unwrap_or_default());
    }
    None
}

/// The value of the cookie of this name in the values of `Set-Cookie` fields.
#[must_use]
pub fn find_set<'a>(fields: impl IntoIterator<Item = &'a [u8]>, name: &[u8]) -> Option<&'a [u8]> {
    fields.into_iter().find_map(|field| {
        let (start, behind) = field.split_at_checked(name.len())?;
        let value = skip_spaces(skip_spaces(behind).strip_prefix(b"=")?);
        if start.eq_ignore_ascii_case(name) { value.split(|byte| *byte == b';').next() } else { None }
    })
}

fn skip_spaces(mut text: &[u8]) -> &[u8] {
    while let [b' ', rest @ ..] = text {
        text = rest;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(fields: &[&str], name: &str, expect: Option<&str>) {
        let fields = fields.iter().map(|field| field.as_bytes());
        assert_eq!(find(fields, name.as_bytes()), expect.map(str::as_bytes), "{name}");
    }

    #[test]
    fn cookies() {
        check(&["foo=1", "bar=2"], "bar", Some("2"));
        check(&["foo=1; bar=2"], "bar", Some("2"));
        check(&["foo=1;bar=2"], "BAR", Some("2"));
        check(&["foo=1, qux=0; bar=2"], "foo", Some("1, qux=0"));
        check(&["foo=1, qux=0; bar=2"], "qux", None);
        check(&["foo = 1 ;bar"], "foo", Some("1 "));
        check(&["foobar=1; foo=2"], "foo", Some("2"));
        check(&["xfoo=1"], "foo", None);
        check(&["foo="], "foo", Some(""));
        check(&["foo", "foo=2"], "foo", Some("2"));
        check(&[""], "foo", None);
        check(&["foo; foo=1"], "foo", None); // nginx
        check(&["foo x; foo=1"], "foo", Some("1"));
    }

    #[test]
    fn set_cookies() {
        let fields = [&b"a=1; Path=/"[..], b"b = 2", b"c"];
        assert_eq!(find_set(fields, b"A"), Some(&b"1"[..]));
        assert_eq!(find_set(fields, b"b"), Some(&b"2"[..]));
        assert_eq!(find_set(fields, b"Path"), None);
        assert_eq!(find_set(fields, b"c"), None);
    }
}
