//! The cases of `tests/corpus`: commands, a model, and the expected output of the commands.
//!
//! A case is a file. Its first lines are commands (`// qcc ..`), which run in a temporary folder that holds the model
//! as `model.qir`; then follows the model, if any, a line `---`, and the expected output. `BLESS=1` rewrites the
//! latter.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use bytes::Bytes;
use qcc_ir::testing::inputs_for;
use qcc_ir::text::{file, print_full};
use qcc_ir::{Elem, Graph, Tensor};
use rayon::prelude::*;

use crate::cli::{files, qcc, text};
use crate::models::steady;
use crate::runtime::{CLOSE, all_close, evaluate};

/// The folders of cases.
const FOLDERS: [&str; 6] = ["cli", "ops", "passes", "quantize", "refuse", "stages"];

/// Subcommands; otherwise `qcc` is followed by a model or an option.
const SUBCOMMANDS: [&str; 6] = ["compare", "diff", "inspect", "ops", "opt", "passes"];

/// The line between the model and the expected output.
const SEPARATOR: &str = "---\n";

/// The file name of the model in commands.
const MODEL: &str = "model.qir";

/// The parts of a file of the corpus.
#[derive(Debug)]
struct Case<'t> {
    /// The arguments of each command.
    commands: Vec<Vec<&'t str>>,
    /// The text before the separator.
    head: &'t str,
    /// The expected output; empty if there is none yet.
    expected: &'t str,
}

impl<'t> Case<'t> {
    fn read(text: &'t str) -> Result<Self, String> {
        let (head, expected) = match text.find(&format!("\n{SEPARATOR}")) {
            Some(at) => (&text[..=at], &text[at + 1 + SEPARATOR.len()..]),
            None => (text, ""),
        };
        let words = |line: &'t str| line.strip_prefix("// qcc").map(|rest| rest.split_whitespace().collect());
        let commands: Vec<Vec<&str>> = head.lines().map_while(words).collect();
        if commands.is_empty() {
            return Err("the first line is no command `// qcc ..`".into());
        }
        let known = |command: &[&str]| match command {
            [] => true,
            [first, ..] => SUBCOMMANDS.contains(first) || first.starts_with('-') || first.ends_with(".qir"),
        };
        match commands.iter().find(|command| !known(command)) {
            Some(command) => Err(format!("unknown command: qcc {}", command.join(" "))),
            None => Ok(Case { commands, head, expected }),
        }
    }

    /// True if a graph or other text precedes the separator.
    fn has_model(&self) -> bool {
        self.head.lines().any(|line| !line.trim().is_empty() && !line.starts_with("//"))
    }

    /// The output of the commands. With several commands, each output follows its command.
    fn run(&self, may_fail: bool) -> Result<String, String> {
        let folder = tempfile::tempdir().map_err(|e| e.to_string())?;
        if self.has_model() {
            fs::write(folder.path().join(MODEL), self.head).map_err(|e| e.to_string())?;
        }
        let mut said = String::new();
        for command in &self.commands {
            if self.commands.len() > 1 {
                said += &format!("$ qcc {}\n", command.join(" "));
            }
            let before = files(folder.path());
            let out = qcc(folder.path(), command);
            said += &transcript(&out);
            if !out.status.success() && files(folder.path()) != before {
                return Err(format!("qcc {} failed and left files behind", command.join(" ")));
            }
            if !out.status.success() && !may_fail {
                return Err(format!("qcc {} failed:\n{said}", command.join(" ")));
            }
            if command.first() == Some(&"opt") && out.status.success() && !command.contains(&"-o") {
                self.keeps_the_meaning(folder.path(), command)?;
            }
        }
        let said = said.replace(concat!("qcc ", env!("CARGO_PKG_VERSION")), "qcc VERSION");
        // Measured values are rounded, so that a change of their last bits does not change all cases.
        let measured = self.commands.iter().flatten().any(|word| *word == "--data");
        Ok(if measured { steady(&coarse(&said)) } else { said })
    }

    /// Fails if passes change what the graph computes, or if simplification is not idempotent.
    fn keeps_the_meaning(&self, folder: &Path, command: &[&str]) -> Result<(), String> {
        let made = |from: &str, to: &str| -> Result<Graph, String> {
            let mut words: Vec<&str> = command.iter().map(|w| if *w == MODEL { from } else { w }).collect();
            words.extend(["-o", to]);
            let out = qcc(folder, &words);
            if !out.status.success() {
                return Err(text(&out.stderr));
            }
            read(&folder.join(to))
        };
        let (source, once) = (read(&folder.join(MODEL))?, made(MODEL, "once.qir")?);
        let inputs = inputs(&source);
        all_close(&evaluate(&once, &inputs)?, &evaluate(&source, &inputs)?, CLOSE)
            .map_err(|why| format!("unlike the source, {why}:\n{}", print_full(&once)))?;
        if command.iter().any(|word| word.contains("--pass") || word.contains("--stop-after")) {
            return Ok(());
        }
        let twice = made("once.qir", "twice.qir")?;
        match twice.same(&once) {
            true => Ok(()),
            false => Err(format!("run once more, the passes go on:\n{}", print_full(&twice))),
        }
    }
}

/// The text with elements of constants rounded to three decimals, and large integers to three digits: bias correction
/// is a small difference of sums, and integer biases depend on the last bits of scales.
fn coarse(text: &str) -> String {
    let element = |element: &str| match element.trim().parse::<f64>() {
        Ok(x) if element.contains('.') => format!("{:.3}", (x * 1e3).round() / 1e3 + 0.0),
        Ok(x) if x.abs() >= 1e4 => format!("{x:.2e}"),
        _ => element.trim().to_owned(),
    };
    let list = |list: &str| list.split(',').map(element).collect::<Vec<_>>().join(",");
    let line = |line: &str| {
        let start = ["const [", " = ["].iter().find_map(|mark| Some(line.find(mark)? + mark.len()));
        match start.and_then(|start| Some((start, start + line[start..].find(']')?))) {
            Some((start, end)) => format!("{}{}{}\n", &line[..start], list(&line[start..end]), &line[end..]),
            None => format!("{line}\n"),
        }
    };
    text.lines().map(line).collect()
}

/// Input values for a graph, with typical extents where they are open.
fn inputs(g: &Graph) -> Vec<Tensor> {
    let g = &*g.typical();
    let typed = |(v, t): (qcc_ir::ValueId, Tensor)| {
        let shape = t.ty().shape.clone();
        match g.ty(v).elem {
            Elem::F16 => Tensor::from_vec(shape, t.floats().iter().map(|&x| half::f16::from_f32(x)).collect()),
            Elem::I64 => Tensor::from_vec(shape, t.floats().iter().map(|x| (x.abs() * 2.0) as i64).collect()),
            _ => t,
        }
    };
    g.inputs().zip(inputs_for(g, 7)).map(typed).collect()
}

fn read(path: &Path) -> Result<Graph, String> {
    let bytes: Bytes = fs::read(path).map_err(|e| e.to_string())?.into();
    file::read(&bytes).map_err(|e| e.to_string())
}

fn transcript(out: &Output) -> String {
    let code = match out.status.code() {
        Some(0) => String::new(),
        Some(code) => format!("exit code {code}\n"),
        None => "ended by a signal\n".into(),
    };
    text(&out.stdout) + &text(&out.stderr) + &code
}

/// The lines that differ, with one equal line of context on either side.
fn difference(expected: &str, found: &str) -> String {
    let (old, new): (Vec<&str>, Vec<&str>) = (expected.lines().collect(), found.lines().collect());
    let same = old.iter().zip(&new).take_while(|(a, b)| a == b).count();
    let shortest = old.len().min(new.len()) - same;
    let end = old.iter().rev().zip(new.iter().rev()).take(shortest).take_while(|(a, b)| a == b).count();
    let line = |sign: char| move |line: &&str| format!("{sign} {line}\n");
    let mut out = format!("at line {} below the separator:\n", same + 1);
    out.extend(old[same.saturating_sub(1)..same].iter().map(line(' ')));
    out.extend(old[same..old.len() - end].iter().map(line('-')));
    out.extend(new[same..new.len() - end].iter().map(line('+')));
    out.extend(old[old.len() - end..].iter().take(1).map(line(' ')));
    out
}

/// The cases in a folder, recursively.
fn cases(folder: &Path, found: &mut Vec<PathBuf>) -> Result<(), String> {
    let shown = folder.display();
    let entries = fs::read_dir(folder).map_err(|e| format!("{shown}: {e}"))?;
    let mut paths: Vec<PathBuf> = entries.map(|e| Ok(e?.path())).collect::<Result<_, std::io::Error>>().unwrap();
    paths.sort();
    if paths.is_empty() {
        return Err(format!("{shown} is empty"));
    }
    for path in paths {
        if path.is_dir() {
            cases(&path, found)?;
        } else if path.extension().is_some_and(|e| e == "qir" || e == "txt") {
            found.push(path);
        } else {
            return Err(format!("{}: cases are called NAME.qir, or NAME.txt where they have no model", path.display()));
        }
    }
    Ok(())
}

/// Runs a case. With `bless`, its output becomes the expected output.
fn check(path: &Path, bless: bool) -> Result<(), String> {
    let contents = fs::read_to_string(path).map_err(|e| e.to_string())?;
    let case = Case::read(&contents)?;
    let in_folder = |name: &str| path.components().any(|part| part.as_os_str() == name);
    let found = case.run(in_folder("refuse") || in_folder("cli"))?;
    if in_folder("refuse") && !found.contains("exit code ") {
        return Err(format!("this is not refused:\n{found}"));
    }
    if found.is_empty() {
        return Err("the commands say nothing".into());
    }
    if found == case.expected {
        return Ok(());
    }
    if bless {
        let head = if case.head.ends_with('\n') { "" } else { "\n" };
        return fs::write(path, format!("{}{head}{SEPARATOR}{found}", case.head)).map_err(|e| e.to_string());
    }
    if case.expected.is_empty() {
        return Err("there is no expectation; BLESS=1 writes it".into());
    }
    Err(difference(case.expected, &found))
}

#[test]
fn corpus() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let mut paths = Vec::new();
    let missing: Vec<String> =
        FOLDERS.iter().filter_map(|folder| cases(&root.join(folder), &mut paths).err()).collect();
    assert!(missing.is_empty(), "{}", missing.join("\n"));
    let bless = std::env::var_os("BLESS").is_some_and(|value| value == "1");
    let wrong: Vec<String> = paths
        .par_iter()
        .filter_map(|path| {
            let name = path.strip_prefix(env!("CARGO_MANIFEST_DIR")).unwrap_or(path);
            check(path, bless).err().map(|why| format!("{}: {why}", name.display()))
        })
        .collect();
    let all = paths.len();
    assert!(wrong.is_empty(), "{} of {all} cases are wrong (BLESS=1 accepts)\n\n{}", wrong.len(), wrong.join("\n"));
}

const GRAPH: &str = "graph g {\n  %x: f32[2] = input\n  %y = unary(f:Exp) %x\n  output y = %y\n}\n";

#[test]
fn a_case_that_says_nothing_of_what_it_should_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let told = |name: &str, contents: &str, bless: bool| {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, contents).unwrap();
        let told = check(&path, bless);
        (told.err().unwrap_or_default(), fs::read_to_string(path).unwrap())
    };
    let case = format!("// qcc opt model.qir\n{GRAPH}");
    assert!(told("a.qir", &case, false).0.contains("no expectation"));
    let (why, blessed) = told("a.qir", &case, true);
    assert_eq!(why, "");
    assert!(blessed.starts_with(&format!("{case}---\ngraph g {{\n")), "{blessed}");
    assert_eq!(told("a.qir", &blessed, false).0, "");
    let changed = blessed.replace("%y: f32[2] = unary(f:Exp)", "%y: f32[2] = unary(f:Tanh)");
    let why = told("a.qir", &changed, false).0;
    assert!(why.contains("\n-   %y: f32[2] = unary(f:Tanh) %x\n+   %y: f32[2] = unary(f:Exp) %x\n"), "{why}");

    assert!(told("a.qir", GRAPH, true).0.contains("no command"));
    let typo = case.replace("opt", "optt");
    assert!(told("a.qir", &typo, true).0.contains("unknown command: qcc optt model.qir"));
    let silent = case.replace("opt model.qir", "model.qir --to tflite -q");
    assert!(told("a.qir", &silent, true).0.contains("say nothing"));
    let refused = case.replace("opt model.qir", "opt model.qir --pass magic");
    assert!(told("a.qir", &refused, true).0.contains("failed"));
    assert_eq!(told("refuse/a.qir", &refused, true).0, "");
    assert!(told("refuse/a.qir", &case, true).0.contains("not refused"));
}

#[test]
fn a_folder_without_cases_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let mut found = Vec::new();
    assert!(cases(folder.path(), &mut found).unwrap_err().contains("is empty"));
    fs::create_dir(folder.path().join("inner")).unwrap();
    assert!(cases(folder.path(), &mut found).unwrap_err().contains("inner is empty"));
    fs::write(folder.path().join("inner/a.md"), "").unwrap();
    assert!(cases(folder.path(), &mut found).unwrap_err().contains("cases are called NAME.qir"));
    assert!(cases(&folder.path().join("none"), &mut found).is_err());
}
