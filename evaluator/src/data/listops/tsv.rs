//! The published files of ListOps (Long Range Arena): tab-separated, nested.
//!
//! `( ( ( [MAX 2 ) 9 ) ] )` with label 9 is `[MAX 2 9 ]`: an operator takes its arguments one by one, and the closing
//! bracket last.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Write},
    path::Path,
};

use super::tree::{CLOSE, MIN, WORDS, ZERO, value};
use crate::data::DataError;

const HEADER: &str = "Source\tTarget";

/// Writes expressions with their values; every expression must be well formed.
pub(super) fn write<'a>(out: &mut impl Write, expressions: impl Iterator<Item = &'a [u8]>) -> io::Result<()> {
    writeln!(out, "{HEADER}")?;
    for tokens in expressions {
        let label = value(tokens).expect("only expressions are written");
        writeln!(out, "{}\t{label}", nested(tokens))?;
    }
    Ok(())
}

/// Gives each expression of a file to `take`, without its parentheses.
///
/// # Errors
/// [`DataError::Io`], and [`DataError::Row`] for what is no expression or has a label that it is not worth.
pub(super) fn read(path: &Path, mut take: impl FnMut(&[u8], u8)) -> Result<(), DataError> {
    let io = |source| DataError::Io {
        path: path.to_owned(),
        source,
    };
    let mut lines = BufReader::new(File::open(path).map_err(io)?).lines();
    let mut number = 0;
    let mut next = || -> Result<Option<(usize, String)>, DataError> {
        number += 1;
        Ok(lines.next().transpose().map_err(io)?.map(|line| (number, line)))
    };
    let wrong = |line, message| DataError::Row {
        path: path.to_owned(),
        line,
        message,
    };
    match next()? {
        Some((_, header)) if header.trim_end() == HEADER => {}
        _ => {
            return Err(wrong(
                1,
                "the header is not 'Source<TAB>Target'; name ListOps files as published".into(),
            ));
        }
    }
    let mut tokens = vec![];
    while let Some((line, text)) = next()? {
        let (source, target) = text.trim_end().split_once('\t').ok_or_else(|| {
            wrong(
                line,
                "there is no tab between expression and label; add it".into(),
            )
        })?;
        tokens.clear();
        for word in source
            .split_ascii_whitespace()
            .filter(|w| !matches!(*w, "(" | ")"))
        {
            let found = WORDS[usize::from(ZERO)..=usize::from(CLOSE)]
                .iter()
                .position(|w| *w == word);
            let token =
                found.ok_or_else(|| wrong(line, format!("'{word}' is no ListOps word; remove the line")))?;
            tokens.push(ZERO + token as u8);
        }
        let worth = value(&tokens).ok_or_else(|| {
            wrong(
                line,
                "the brackets do not make one expression; remove the line".into(),
            )
        })?;
        if target.parse() != Ok(worth) {
            let message = format!("the label is '{target}' but the expression is worth {worth}; correct it");
            return Err(wrong(line, message));
        }
        take(&tokens, worth);
    }
    Ok(())
}

/// The nested binary form.
fn nested(tokens: &[u8]) -> String {
    // what has been read of each open operator, the outermost first
    let mut open: Vec<String> = vec![];
    for token in tokens {
        let word = WORDS[usize::from(*token)];
        let done = match *token {
            MIN..CLOSE => {
                open.push(word.to_owned());
                continue;
            }
            CLOSE => {
                let operator = open.pop().expect("only expressions are written");
                format!("( {operator} ] )")
            }
            _ => word.to_owned(),
        };
        match open.last_mut() {
            Some(operator) => *operator = format!("( {operator} {done} )"),
            None => return done,
        }
    }
    String::new()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::listops::tree::tests::tokens;

    fn read_back(content: &str) -> Result<Vec<(Vec<u8>, u8)>, DataError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("basic_val.tsv");
        std::fs::write(&path, content).unwrap();
        let mut rows = vec![];
        read(&path, |tokens, label| rows.push((tokens.to_vec(), label)))?;
        Ok(rows)
    }

    #[test]
    fn the_nested_form_is_the_published_one() {
        assert_eq!(nested(&tokens("[MAX 2 9 ]")), "( ( ( [MAX 2 ) 9 ) ] )");
        assert_eq!(
            nested(&tokens("[SM 1 [MIN 4 7 ] 0 ]")),
            "( ( ( ( [SM 1 ) ( ( ( [MIN 4 ) 7 ) ] ) ) 0 ) ] )"
        );
        assert_eq!(nested(&tokens("3")), "3");
    }

    #[test]
    fn what_is_written_is_read_back() {
        let expressions = ["[MAX 2 9 [MIN 4 7 ] 0 ]", "[SM [MED 1 2 4 9 ] 8 ]", "5"].map(tokens);
        let mut out = vec![];
        write(&mut out, expressions.iter().map(Vec::as_slice)).unwrap();
        let text = String::from_utf8(out).unwrap();
        let expected: Vec<_> = expressions.iter().cloned().zip([9, 1, 5]).collect();
        assert_eq!(read_back(&text).unwrap(), expected);
        // the published files were written with the line ends of another system
        assert_eq!(read_back(&text.replace('\n', "\r\n")).unwrap(), expected);
    }

    #[test]
    fn a_faulty_row_is_named() {
        for (row, expected) in [
            (
                "( ( [MAX 2 ) ] )\t3",
                "label is '3' but the expression is worth 2",
            ),
            ("( ( [MAX 2 ) ] )", "no tab"),
            ("( ( [MOD 2 ) ] )\t2", "'[MOD'"),
            ("( [MAX 2 )\t2", "do not make one expression"),
        ] {
            let message = read_back(&format!("Source\tTarget\n5\t5\n{row}\n"))
                .unwrap_err()
                .to_string();
            assert!(
                message.contains("line 3") && message.contains(expected),
                "{message}"
            );
        }
        assert!(read_back("a\tb\n").unwrap_err().to_string().contains("header"));
        assert!(read_back("").is_err());
    }
}
