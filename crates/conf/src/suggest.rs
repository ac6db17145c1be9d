//! "Did you mean": the known word that a misspelled one is nearest to.

/// The nearest candidate, if it is near enough to be what was meant.
pub fn did_you_mean<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let word: Vec<char> = word.chars().take(MAX_WORD + 1).collect();
    if word.len() > MAX_WORD {
        return None;
    }
    let allowed = (word.len() / 3).clamp(1, 3);
    candidates
        .filter(|candidate| candidate.len().abs_diff(word.len()) <= allowed)
        .map(|candidate| (distance(&word, candidate), candidate))
        .filter(|&(distance, _)| distance <= allowed && distance < word.len())
        .min_by_key(|&(distance, _)| distance)
        .map(|(_, candidate)| candidate)
}

/// No directive is longer; what is, was never meant as one.
const MAX_WORD: usize = 64;

/// Edits (insert, delete, replace, swap of neighbours) from one word to the other; case counts for nothing.
fn distance(word: &[char], candidate: &str) -> usize {
    let same = |a: char, b: char| a.eq_ignore_ascii_case(&b);
    let width = word.len() + 1;
    let mut before_last = vec![0; width];
    let mut last: Vec<usize> = (0..width).collect();
    let mut previous = None;
    for (row, c) in candidate.chars().enumerate() {
        let mut line = vec![row + 1; width];
        for column in 1..width {
            let here = word[column - 1];
            let replaced = last[column - 1] + usize::from(!same(here, c));
            line[column] = replaced.min(last[column] + 1).min(line[column - 1] + 1);
            let swapped = column > 1 && previous.is_some_and(|p| same(p, here)) && same(word[column - 2], c);
            if swapped {
                line[column] = line[column].min(before_last[column - 2] + 1);
            }
        }
        previous = Some(c);
        before_last = std::mem::replace(&mut last, line);
    }
    last.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(word: &str, expect: Option<&str>) {
        let known =
            ["listen", "server", "server_name", "location", "proxy_pass", "return", "if", "error_log"];
        assert_eq!(did_you_mean(word, known.into_iter()), expect, "{word}");
    }

    #[test]
    fn near_words_are_suggested_and_far_ones_are_not() {
        check("lisen", Some("listen"));
        check("lsiten", Some("listen"));
        check("servername", Some("server_name"));
        check("Proxy_Pass", Some("proxy_pass"));
        check("locaton", Some("location"));
        check("serve", Some("server"));
        check("gzip", None);
        check("x", None);
        check("", None);
        check(&"l".repeat(1000), None);
    }
}
