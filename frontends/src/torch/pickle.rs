//! Pickled dictionaries of tensors, as written by `torch.save`. The reader does not execute anything: it supports the
//! few globals that rebuild tensors and refuses all others by name.

use std::collections::BTreeMap;
use std::rc::Rc;

use bytes::Bytes;

use super::archive::Archive;
use super::storage::View;
use crate::elements::Stored;
use crate::refusal::Refusal;

/// A tensor of the dictionary.
#[derive(Clone, Debug)]
pub(super) struct Pickled {
    pub(super) storage: Bytes,
    pub(super) stored: Stored,
    pub(super) view: View,
}

/// Maximum number of values of a pickle.
const MOST_VALUES: usize = 1 << 22;

/// Maximum nesting depth of tuples; a tensor needs three.
const DEEPEST: u32 = 8;

#[derive(Clone, Debug)]
enum Value {
    None,
    Bool,
    Int(i64),
    Float,
    Text(Rc<str>),
    /// Its elements and its nesting depth.
    Tuple(Rc<[Value]>, u32),
    /// Tensors by name, in order.
    Dict(Vec<(Rc<str>, Rc<Pickled>)>),
    Global(Global),
    Storage(Bytes, Stored),
    Tensor(Rc<Pickled>),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Global {
    OrderedDict,
    RebuildTensor,
    RebuildParameter,
    Storage(Stored),
}

/// The tensors of `archive/data.pkl`, by name.
pub(super) fn tensors(archive: &Archive) -> Result<Vec<(String, Pickled)>, Refusal> {
    let root = archive.names().find_map(|n| n.strip_suffix("data.pkl").map(String::from));
    let root = root.ok_or_else(|| Refusal::Invalid("a file of weights without data.pkl".into()))?;
    let order = format!("{root}byteorder");
    if archive.has(&order) && archive.read(&order)?.as_ref() != b"little" {
        return Err(Refusal::Unsupported("weights in big-endian order are not supported".into()));
    }
    let pickle = archive.read(&format!("{root}data.pkl"))?;
    let mut machine = Machine {
        archive,
        root: &root,
        rest: &pickle,
        stack: Vec::new(),
        marks: Vec::new(),
        memo: Vec::new(),
        storages: BTreeMap::new(),
        made: 0,
    };
    let Value::Dict(tensors) = machine.run()? else {
        return Err(Refusal::Invalid("the weights are not a dictionary".into()));
    };
    Ok(tensors.into_iter().map(|(name, tensor)| (name.to_string(), Pickled::clone(&tensor))).collect())
}

/// The subset of the pickle machine (protocols 2 to 4) that data needs.
struct Machine<'a> {
    archive: &'a Archive,
    root: &'a str,
    rest: &'a [u8],
    stack: Vec<Value>,
    marks: Vec<usize>,
    memo: Vec<Option<Value>>,
    storages: BTreeMap<Rc<str>, Bytes>,
    made: usize,
}

fn damaged(what: &str) -> Refusal {
    Refusal::Invalid(format!("the pickled weights are damaged: {what}"))
}

impl Machine<'_> {
    fn run(&mut self) -> Result<Value, Refusal> {
        loop {
            let [opcode] = self.take()?;
            match opcode {
                b'.' => return self.pop(),
                0x80 => drop(self.take::<1>()?),
                0x95 => drop(self.take::<8>()?),
                b'(' => self.marks.push(self.stack.len()),
                b'N' => self.push(Value::None)?,
                0x88 | 0x89 => self.push(Value::Bool)?,
                b'J' => {
                    let n = i32::from_le_bytes(self.take()?);
                    self.push(Value::Int(n.into()))?;
                }
                b'K' => {
                    let [n] = self.take()?;
                    self.push(Value::Int(n.into()))?;
                }
                b'M' => {
                    let n = u16::from_le_bytes(self.take()?);
                    self.push(Value::Int(n.into()))?;
                }
                0x8a => self.long()?,
                b'G' => {
                    self.take::<8>()?;
                    self.push(Value::Float)?;
                }
                b'X' => {
                    let length = u32::from_le_bytes(self.take()?);
                    self.text(length as usize)?;
                }
                0x8c => {
                    let [length] = self.take()?;
                    self.text(length.into())?;
                }
                b'}' => self.push(Value::Dict(Vec::new()))?,
                b')' => self.tuple(Vec::new())?,
                b't' => {
                    let parts = self.since_mark()?;
                    self.tuple(parts)?;
                }
                0x85..=0x87 => {
                    let parts = self.last(usize::from(opcode - 0x84))?;
                    self.tuple(parts)?;
                }
                b's' => {
                    let pair = self.last(2)?;
                    self.set(&pair)?;
                }
                b'u' => {
                    let pairs = self.since_mark()?;
                    self.set(&pairs)?;
                }
                b'q' => {
                    let [at] = self.take()?;
                    self.memorize(at.into())?;
                }
                b'r' => {
                    let at = u32::from_le_bytes(self.take()?);
                    self.memorize(at as usize)?;
                }
                0x94 => self.memorize(self.memo.len())?,
                b'h' => {
                    let [at] = self.take()?;
                    self.recall(at.into())?;
                }
                b'j' => {
                    let at = u32::from_le_bytes(self.take()?);
                    self.recall(at as usize)?;
                }
                b'c' => {
                    let (module, name) = (self.line()?, self.line()?);
                    self.global(&module, &name)?;
                }
                0x93 => match self.last(2)?.as_slice() {
                    [Value::Text(module), Value::Text(name)] => {
                        let (module, name) = (module.clone(), name.clone());
                        self.global(&module, &name)?;
                    }
                    _ => return Err(damaged("a global without a name")),
                },
                b'Q' => self.storage()?,
                b'R' => self.call()?,
                other => return Err(Refusal::Unsupported(format!("the weights use pickle opcode {other:#04x}"))),
            }
        }
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], Refusal> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or_else(|| damaged("it ends too early"))?;
        self.rest = rest;
        Ok(*taken)
    }

    fn bytes(&mut self, length: usize) -> Result<&[u8], Refusal> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or_else(|| damaged("it ends too early"))?;
        self.rest = rest;
        Ok(taken)
    }

    fn line(&mut self) -> Result<String, Refusal> {
        let length = self.rest.iter().position(|&b| b == b'\n').ok_or_else(|| damaged("it ends too early"))?;
        let line = String::from_utf8_lossy(self.bytes(length)?).into_owned();
        self.take::<1>()?;
        Ok(line)
    }

    fn push(&mut self, value: Value) -> Result<(), Refusal> {
        self.made += 1;
        if self.made > MOST_VALUES {
            return Err(Refusal::Unsupported("the pickled weights have too many values".into()));
        }
        self.stack.push(value);
        Ok(())
    }

    /// Values below the last mark belong to the enclosing object.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn pop(&mut self) -> Result<Value, Refusal> {
        self.last(1)?.pop().ok_or_else(|| damaged("its stack is empty"))
    }

    fn last(&mut self, count: usize) -> Result<Vec<Value>, Refusal> {
        let at = self.stack.len().checked_sub(count).filter(|&at| at >= self.floor());
        Ok(self.stack.split_off(at.ok_or_else(|| damaged("its stack is empty"))?))
    }

    fn since_mark(&mut self) -> Result<Vec<Value>, Refusal> {
        let at = self.marks.pop().ok_or_else(|| damaged("it has no mark"))?;
        Ok(self.stack.split_off(at.min(self.stack.len())))
    }

    fn text(&mut self, length: usize) -> Result<(), Refusal> {
        let text = std::str::from_utf8(self.bytes(length)?).map_err(|_| damaged("a text is not UTF-8"))?.into();
        self.push(Value::Text(text))
    }

    fn tuple(&mut self, parts: Vec<Value>) -> Result<(), Refusal> {
        let inner = parts.iter().map(|p| if let Value::Tuple(_, depth) = p { *depth } else { 0 }).max();
        let depth = 1 + inner.unwrap_or(0);
        if depth > DEEPEST {
            return Err(damaged("its tuples are nested too deeply"));
        }
        self.push(Value::Tuple(parts.into(), depth))
    }

    /// A little-endian number of up to eight bytes.
    fn long(&mut self) -> Result<(), Refusal> {
        let [length] = self.take()?;
        let digits = self.bytes(length.into())?;
        if digits.len() > 8 {
            return Err(damaged("a number of more than 64 bits"));
        }
        let fill = if digits.last().is_some_and(|d| d & 0x80 != 0) { 0xff } else { 0 };
        let mut word = [fill; 8];
        word[..digits.len()].copy_from_slice(digits);
        self.push(Value::Int(i64::from_le_bytes(word)))
    }

    fn set(&mut self, values: &[Value]) -> Result<(), Refusal> {
        let Some(Value::Dict(tensors)) = self.stack.last_mut() else {
            return Err(damaged("an item is set in an object that is not a dictionary"));
        };
        for pair in values.chunks(2) {
            let [Value::Text(name), Value::Tensor(tensor)] = pair else {
                return Err(Refusal::Unsupported("the pickled weights hold an object that is not a tensor".into()));
            };
            tensors.push((name.clone(), tensor.clone()));
        }
        Ok(())
    }

    /// Dictionaries are still empty when they are memoized; nothing refers to them again.
    fn memorize(&mut self, at: usize) -> Result<(), Refusal> {
        let top = self.stack.last().ok_or_else(|| damaged("its stack is empty"))?;
        let top = if matches!(top, Value::Dict(_)) { None } else { Some(top.clone()) };
        if at > MOST_VALUES {
            return Err(damaged("a memo beyond its end"));
        }
        if self.memo.len() <= at {
            self.memo.resize(at + 1, None);
        }
        self.memo[at] = top;
        Ok(())
    }

    fn recall(&mut self, at: usize) -> Result<(), Refusal> {
        let value = self.memo.get(at).cloned().flatten();
        self.push(value.ok_or_else(|| damaged("it refers to an object that is not complete"))?)
    }

    fn global(&mut self, module: &str, name: &str) -> Result<(), Refusal> {
        let stored = match name {
            "FloatStorage" => Some(Stored::F32),
            "HalfStorage" => Some(Stored::F16),
            "BFloat16Storage" => Some(Stored::Bf16),
            "DoubleStorage" => Some(Stored::F64),
            "LongStorage" => Some(Stored::I64),
            "IntStorage" => Some(Stored::I32),
            "ShortStorage" => Some(Stored::I16),
            "CharStorage" => Some(Stored::I8),
            "ByteStorage" => Some(Stored::U8),
            "BoolStorage" => Some(Stored::Bool),
            _ => None,
        };
        let global = match (module, name) {
            ("collections", "OrderedDict") => Global::OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2") => Global::RebuildTensor,
            ("torch._utils", "_rebuild_parameter") => Global::RebuildParameter,
            ("torch", _) => match stored {
                Some(stored) => Global::Storage(stored),
                None => return Err(forbidden(module, name)),
            },
            _ => return Err(forbidden(module, name)),
        };
        self.push(Value::Global(global))
    }

    /// `('storage', type, key, device, elements)`
    fn storage(&mut self) -> Result<(), Refusal> {
        let Value::Tuple(id, _) = self.pop()? else { return Err(damaged("a persistent id is not a tuple")) };
        match &*id {
            [Value::Text(kind), Value::Global(Global::Storage(stored)), Value::Text(key), _, Value::Int(_)]
                if &**kind == "storage" =>
            {
                let bytes = match self.storages.get(key) {
                    Some(bytes) => bytes.clone(),
                    None => self.archive.read(&format!("{}data/{key}", self.root))?,
                };
                self.storages.insert(key.clone(), bytes.clone());
                self.push(Value::Storage(bytes, *stored))
            }
            _ => Err(damaged("a persistent id is not a storage")),
        }
    }

    fn call(&mut self) -> Result<(), Refusal> {
        let (Value::Tuple(arguments, _), Value::Global(global)) = (self.pop()?, self.pop()?) else {
            return Err(damaged("it calls an unknown function"));
        };
        let integers = |v: &Value| match v {
            Value::Tuple(parts, _) => {
                parts.iter().map(|p| if let Value::Int(n) = p { Some(*n) } else { None }).collect::<Option<Vec<i64>>>()
            }
            _ => None,
        };
        let result = match (global, &*arguments) {
            (Global::OrderedDict, []) => Value::Dict(Vec::new()),
            (Global::RebuildTensor, [Value::Storage(bytes, stored), Value::Int(offset), sizes, strides, ..]) => {
                let (Some(sizes), Some(strides)) = (integers(sizes), integers(strides)) else {
                    return Err(damaged("a tensor without a shape"));
                };
                let view = View { sizes, strides, offset: *offset };
                Value::Tensor(Rc::new(Pickled { storage: bytes.clone(), stored: *stored, view }))
            }
            (Global::RebuildParameter, [Value::Tensor(tensor), ..]) => Value::Tensor(tensor.clone()),
            _ => return Err(damaged("a tensor is rebuilt from invalid arguments")),
        };
        self.push(result)
    }
}

fn forbidden(module: &str, name: &str) -> Refusal {
    let message = format!("the pickled weights call {module}.{name}; qcc rebuilds tensors and calls nothing else");
    Refusal::Advised { message, help: "save the program with torch.export.save alone" }
}
