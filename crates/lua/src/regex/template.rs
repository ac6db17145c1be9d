//! The replacement of `ngx.re.sub` and `ngx.re.gsub`: text with `$1`, `${1}`, `$0` and `$$`.
//! <https://github.com/openresty/lua-nginx-module#ngxresub>

/// A replacement, parsed.
#[derive(PartialEq, Eq, Debug)]
pub(crate) struct Template(Vec<Part>);

#[derive(PartialEq, Eq, Debug)]
enum Part {
    Text(Box<[u8]>),
    Group(usize),
}

/// Why a replacement is none.
#[derive(PartialEq, Eq, Debug)]
pub(crate) enum Malformed {
    /// `${1`.
    OpenBracket(Vec<u8>),
    /// `$name`.
    Named(Vec<u8>),
    /// `$` before something else.
    Invalid,
}

impl Malformed {
    /// Upstream's line about it.
    pub(crate) fn describe(&self, template: &[u8]) -> String {
        let lossy = String::from_utf8_lossy;
        match self {
            Self::OpenBracket(name) => {
                format!("the closing bracket in \"{}\" variable is missing", lossy(name))
            }
            Self::Named(name) => format!(
                "attempt to use named capturing variable \"{}\" (named captures not supported yet)",
                lossy(name)
            ),
            Self::Invalid => {
                format!("lua script: invalid capturing variable name found in \"{}\"", lossy(template))
            }
        }
    }
}

impl Template {
    /// Parses a replacement; `None` if it is nothing but text.
    pub(crate) fn parse(template: &[u8]) -> Result<Option<Self>, Malformed> {
        if !template.contains(&b'$') {
            return Ok(None);
        }
        let (mut parts, mut rest) = (Vec::new(), template);
        while !rest.is_empty() {
            let end = rest.iter().position(|byte| *byte == b'$').unwrap_or(rest.len());
            let (text, after) = rest.split_at(end);
            if !text.is_empty() {
                parts.push(Part::Text(text.into()));
            }
            let Some(after) = after.strip_prefix(b"$") else { break };
            if let Some(after) = after.strip_prefix(b"$") {
                parts.push(Part::Text(b"$".as_slice().into()));
                rest = after;
            } else {
                let (group, after) = variable(after)?;
                parts.push(Part::Group(group));
                rest = after;
            }
        }
        Ok(Some(Self(parts)))
    }

    /// Calls `see` with the pieces of the result, `group` being the text of each group.
    pub(crate) fn eval<'a>(&'a self, group: impl Fn(usize) -> &'a [u8], mut see: impl FnMut(&[u8])) {
        for part in &self.0 {
            match part {
                Part::Text(text) => see(text),
                Part::Group(n) => see(group(*n)),
            }
        }
    }
}

/// The variable behind a `$`, and what follows it.
fn variable(text: &[u8]) -> Result<(usize, &[u8]), Malformed> {
    let (bracket, text) = match text.strip_prefix(b"{") {
        Some(text) => (true, text),
        None => (false, text),
    };
    let numbered = text.first().ok_or(Malformed::Invalid)?.is_ascii_digit();
    let belongs = |byte: &u8| if numbered { byte.is_ascii_digit() } else { is_name(*byte) };
    let (name, after) = text.split_at(text.iter().position(|byte| !belongs(byte)).unwrap_or(text.len()));
    let after = match (bracket, after.strip_prefix(b"}")) {
        (true, Some(after)) => after,
        (true, None) => return Err(Malformed::OpenBracket(name.to_vec())),
        (false, _) => after,
    };
    if name.is_empty() {
        return Err(Malformed::Invalid);
    }
    if !numbered {
        return Err(Malformed::Named(name.to_vec()));
    }
    let digit = |n: usize, byte: &u8| n.saturating_mul(10).saturating_add(usize::from(byte - b'0'));
    Ok((name.iter().fold(0, digit), after))
}

fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

#[cfg(test)]
mod tests {
    use super::*;

    fn eval(template: &str) -> String {
        let template = Template::parse(template.as_bytes()).unwrap().unwrap();
        let groups = [&b"whole"[..], b"one", b"two"];
        let mut out = Vec::new();
        template.eval(|n| groups.get(n).copied().unwrap_or_default(), |piece| out.extend_from_slice(piece));
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn groups_and_dollars_are_put_in() {
        for (template, expect) in [
            ("[$0]", "[whole]"),
            ("$1$2", "onetwo"),
            ("${1}2", "one2"),
            ("$12", ""),
            ("a$$1", "a$1"),
            ("$$$1", "$one"),
            ("$99999999999999999999999x", "x"),
        ] {
            assert_eq!(eval(template), expect, "{template}");
        }
        assert_eq!(Template::parse(b"plain"), Ok(None));
        assert_eq!(Template::parse(b""), Ok(None));
    }

    #[test]
    fn what_is_wrong_is_said() {
        let check = |text: &[u8], expect: &str| {
            assert_eq!(Template::parse(text).unwrap_err().describe(text), expect);
        };
        check(b"$", "lua script: invalid capturing variable name found in \"$\"");
        check(b"a$-", "lua script: invalid capturing variable name found in \"a$-\"");
        check(b"${", "lua script: invalid capturing variable name found in \"${\"");
        check(b"${}", "lua script: invalid capturing variable name found in \"${}\"");
        check(b"${1", "the closing bracket in \"1\" variable is missing");
        check(b"${1x}", "the closing bracket in \"1\" variable is missing");
        check(
            b"$name-",
            "attempt to use named capturing variable \"name\" (named captures not supported yet)",
        );
    }
}
