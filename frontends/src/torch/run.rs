//! Import of the nodes of a program, in order; weights are created at first use.

use qcc_ir::diagnostic::Diagnostic;
use qcc_ir::{Dim, Origin, ValueId};
use rustc_hash::FxHashMap;

use super::importer::{Binding, Complex, Importer};
use super::node::NodeCx;
use super::ops::{self, Import};
use super::quantity::Quantity;
use super::schedule::Schedule;
use super::schema::{self, Argument, InputSpec, Node, OutputSpec, Size};
use super::views::{self, How, View};
use super::{decompose, weights};
use crate::Imported;
use crate::build::Values;
use crate::build::control::expand;
use crate::elements::Stored;
use crate::refusal::Refusal;

/// The results of a node.
#[derive(Debug)]
enum Results {
    Tensors(Values),
    Complex(Vec<Complex>),
    Number(Quantity),
}

impl<'m> Importer<'m> {
    /// Imports the program; its inputs have been added.
    pub(super) fn run(mut self) -> Result<Imported, Vec<Diagnostic>> {
        let module = &self.program.graph_module;
        let outputs: Vec<&'m Argument> = module
            .signature
            .output_specs
            .iter()
            .filter_map(|spec| if let OutputSpec::User(argument) = spec { Some(argument) } else { None })
            .collect();
        let mut schedule = Schedule::new(&module.graph, outputs.iter().flat_map(|o| o.names()));
        self.bind_state(&mut schedule);
        for node in std::mem::take(&mut schedule.nodes) {
            self.node(node);
        }
        for (i, output) in outputs.into_iter().enumerate() {
            self.output(i, output);
        }
        // If other nodes are refused as well, decomposition alone does not help.
        let helps = self.decomposable == self.errors.len();
        let told = |d: Diagnostic| if helps { d.with_help(decompose::HELP) } else { d };
        let errors = self.errors.into_iter().map(told).collect();
        self.notes.extend(self.doubles.diagnostic());
        Imported::complete(self.graph, self.notes, errors)
    }

    /// Binds the state of the model: parameters, buffers, constants. They must not change.
    fn bind_state(&mut self, schedule: &mut Schedule<'m>) {
        let signature = &self.program.graph_module.signature;
        for spec in &signature.input_specs {
            let (arg, kind, held) = match spec {
                InputSpec::Parameter { arg, parameter_name } => (arg, "parameter", parameter_name),
                InputSpec::Buffer { arg, buffer_name } => (arg, "buffer", buffer_name),
                InputSpec::TensorConstant { arg, tensor_constant_name } => (arg, "constant", tensor_constant_name),
                InputSpec::CustomObj { arg } => {
                    self.bind(&arg.name, Binding::Foreign("a custom object"));
                    continue;
                }
                InputSpec::Token { arg } => {
                    self.bind(&arg.name, Binding::Foreign("a token that orders effects"));
                    continue;
                }
                InputSpec::UserInput { .. } | InputSpec::ConstantInput { .. } => continue,
            };
            let replaced = signature
                .output_specs
                .iter()
                .any(|o| matches!(o, OutputSpec::Buffer(name) | OutputSpec::Parameter(name) if name == held));
            if schedule.changes(&arg.name) || (replaced && schedule.needs(&arg.name)) {
                let message = format!("{kind} {held} changes from run to run, and results depend on it");
                let refusal = Diagnostic::error("unsupported", message).at(&Origin::new(held.as_str(), kind));
                self.errors.push(refusal.with_help("make it an input and an output of the model"));
                self.bind(&arg.name, Binding::Refused);
            } else {
                self.bind(&arg.name, Binding::Weight(held));
            }
        }
    }

    fn output(&mut self, index: usize, output: &'m Argument) {
        match output {
            Argument::Tensor(name) => match self.value(name) {
                Ok(value) => {
                    let taken = self.graph.outputs().iter().any(|o| *o.name == **name);
                    let stored = self.declared(name).and_then(|m| weights::stored(m.dtype).ok());
                    let name = if taken { format!("{name}.{index}") } else { name.clone() };
                    self.notes.extend(stored.and_then(|s| s.interface("output", &name)));
                    self.graph.add_output(name, value);
                }
                Err(e) => self.refuse(e, &Origin::none()),
            },
            Argument::None => {}
            _ => {
                let message = format!("output {index} is not a tensor; left out");
                self.notes.push(Diagnostic::warning("output-left-out", message));
            }
        }
    }

    /// Inlines a graph with its inputs bound to these values. Returns its outputs, tensors and numbers.
    pub(super) fn inline<O>(
        &mut self,
        graph: &'m schema::Graph,
        operands: &[O],
    ) -> Result<(Values, Vec<Quantity>), Refusal>
    where
        O: Clone + Into<Binding<'m>>,
    {
        let inputs: Vec<&'m str> = graph.inputs.iter().flat_map(Argument::names).collect();
        if inputs.len() != operands.len() {
            return Err(Refusal::Invalid(format!(
                "{} operands for a graph of {} inputs",
                operands.len(),
                inputs.len()
            )));
        }
        expand(&mut self.expanded, graph.nodes.len())?;
        let known = self.errors.len();
        self.scopes.push((FxHashMap::default(), &graph.tensor_values));
        for (name, operand) in inputs.into_iter().zip(operands) {
            self.bind(name, operand.clone().into());
        }
        let wanted = || graph.outputs.iter().flat_map(Argument::names);
        for node in Schedule::new(graph, wanted()).nodes {
            self.node(node);
        }
        let results = self.collected(wanted());
        self.scopes.pop();
        // The errors of one iteration are not repeated for others.
        if self.errors.len() > known { Err(Refusal::Depends) } else { results }
    }

    /// The values of these names, tensors and numbers.
    fn collected(&mut self, names: impl Iterator<Item = &'m str>) -> Result<(Values, Vec<Quantity>), Refusal> {
        let (mut tensors, mut numbers) = (Values::new(), Vec::new());
        for name in names {
            match self.binding(name)? {
                Binding::Number(number) => numbers.push(number.clone()),
                _ => tensors.push(self.value(name)?),
            }
        }
        Ok((tensors, numbers))
    }

    /// The value of a name. If it is a view, later writes to its base are included.
    pub(super) fn value(&mut self, name: &'m str) -> Result<ValueId, Refusal> {
        match self.binding(name)?.clone() {
            Binding::Value { value, view: None } => Ok(value),
            Binding::Value { value, view: Some(view) } => {
                let whole = self.value(view.of)?;
                if whole == view.seen {
                    return Ok(value);
                }
                let value = match view.how {
                    How::Same => whole,
                    How::Part(node, index) => match self.results(node, &origin(node))? {
                        Results::Tensors(values) => {
                            *values.get(index).ok_or_else(|| Refusal::Undefined(name.into()))?
                        }
                        Results::Complex(_) | Results::Number(_) => return Err(Refusal::Undefined(name.into())),
                    },
                    How::Unknown => return Err(views::unknown(name)),
                };
                self.bind(name, Binding::Value { value, view: Some(View { seen: whole, ..view }) });
                Ok(value)
            }
            Binding::Refused => Err(Refusal::Depends),
            Binding::Foreign(what) => Err(Refusal::Unsupported(format!("{name} is {what}"))),
            Binding::Undecided => Err(views::unknown(name)),
            Binding::Number(_) => Err(Refusal::Invalid(format!("{name} is a number; expected a tensor"))),
            Binding::Complex(_) => Err(unread(name)),
            Binding::Weight(held) if self.weights.is_complex(held) => Err(unread(name)),
            Binding::Weight(held) => {
                let origin = Origin::new(held, "Weight");
                self.doubles.constants |= self.weights.is_double(held);
                let bound = match self.weights.tensor(held) {
                    Ok(tensor) => {
                        let value = self.graph.add_const(tensor, origin);
                        self.graph.set_name(value, held);
                        Binding::Value { value, view: None }
                    }
                    Err(e) => {
                        self.refuse(e, &origin);
                        Binding::Refused
                    }
                };
                self.rebind(name, bound);
                self.value(name)
            }
        }
    }

    /// Binds a weight of complex numbers to its parts.
    fn load_complex(&mut self, name: &'m str) {
        let Ok(&Binding::Weight(held)) = self.binding(name) else { return };
        if !self.weights.is_complex(held) {
            return;
        }
        let origin = Origin::new(held, "Weight");
        let bound = match self.weights.parts(held) {
            Ok(parts) => Binding::Complex(parts.map(|part| self.graph.add_const(part, origin.clone()))),
            Err(e) => {
                self.refuse(e, &origin);
                Binding::Refused
            }
        };
        self.rebind(name, bound);
    }

    /// Binds a name anew in the scope that has it.
    fn rebind(&mut self, name: &'m str, binding: Binding<'m>) {
        let depth = self.scopes.iter().rposition(|s| s.0.contains_key(name)).unwrap_or(0);
        self.scopes[depth].0.insert(name, binding);
    }

    /// What a node with complex results shows must not be written to.
    fn share(&mut self, node: &'m Node) {
        let mut shown = ops::shows(node);
        while let Some(name) = shown {
            self.complex_shown.insert(name);
            shown = match self.binding(name) {
                Ok(Binding::Value { view: Some(view), .. }) => Some(view.of),
                _ => None,
            };
        }
    }

    /// Writes a new value through a name, which may be a view.
    fn write(&mut self, name: &'m str, value: ValueId) -> Result<(), Refusal> {
        if self.complex_shown.contains(name) {
            return Err(Refusal::Unsupported(format!("writing in place to complex numbers, through {name}")));
        }
        let old = self.value(name)?;
        let Binding::Value { view: Some(view), .. } = self.binding(name)?.clone() else {
            self.bind(name, Binding::Value { value, view: None });
            return Ok(());
        };
        let whole = match view.how {
            How::Same => value,
            How::Part(node, index) => {
                let whole = self.value(view.of)?;
                ops::put::put(&mut NodeCx::new(self, node, origin(node)), index, whole, old, value)?
            }
            // As a copy it stands alone. What it may be a view of is not read any more.
            How::Unknown => {
                self.leave_undecided(view.of);
                self.bind(name, Binding::Value { value, view: None });
                return Ok(());
            }
        };
        self.write(view.of, whole)?;
        let seen = self.value(view.of)?;
        self.bind(name, Binding::Value { value, view: Some(View { seen, ..view }) });
        Ok(())
    }

    /// Binds a name, and all names that it is a view of, as changed or not.
    fn leave_undecided(&mut self, name: &'m str) {
        let mut next = Some(name);
        while let Some(name) = next {
            next = match self.binding(name) {
                Ok(Binding::Value { view: Some(view), .. }) => Some(view.of),
                _ => None,
            };
            self.rebind(name, Binding::Undecided);
        }
    }

    fn node(&mut self, node: &'m Node) {
        let origin = origin(node);
        let bound = self.results(node, &origin).and_then(|results| match results {
            Results::Tensors(values) => self.bind_results(node, values, &origin),
            Results::Complex(values) => {
                self.share(node);
                node.results().zip(values).try_for_each(|(name, parts)| {
                    self.check(name, parts[0])?;
                    self.bind_new(name, Binding::Complex(parts))
                })
            }
            Results::Number(number) => {
                node.results().try_for_each(|name| self.bind_new(name, Binding::Number(number.clone())))
            }
        });
        if let Err(e) = bound {
            let told = e.diagnostic(&origin);
            self.decomposable += usize::from(told.is_some() && decompose::goes_away(node));
            self.errors.extend(told);
            node.results().for_each(|name| self.bind(name, Binding::Refused));
        }
    }

    fn results(&mut self, node: &'m Node, origin: &Origin) -> Result<Results, Refusal> {
        // The operator is looked up before its operands, so that all unknown operators are reported at once.
        let import = ops::find(node)?;
        // All are resolved, so that all damaged weights are reported.
        let mut refused = Ok(());
        for name in node.inputs.iter().flat_map(|i| i.arg.names()) {
            self.load_complex(name);
            let other = matches!(self.binding(name), Ok(Binding::Number(_) | Binding::Complex(_)) | Err(_));
            if !other && let Err(e) = self.value(name) {
                refused = Err(e);
            }
        }
        refused?;
        let mut complex: Vec<&'m str> =
            node.inputs.iter().flat_map(|i| i.arg.names()).filter(|name| self.complex(name).is_some()).collect();
        complex.sort_unstable();
        complex.dedup();
        if complex.is_empty() {
            return self.imported(node, import, origin);
        }
        if ops::is_partwise(node) {
            return self.partwise(node, import, origin, &complex);
        }
        let import = ops::of_complex(node).unwrap_or(import);
        self.imported(node, import, origin)
    }

    fn imported(&mut self, node: &'m Node, import: Import, origin: &Origin) -> Result<Results, Refusal> {
        let declared = node.results().next().and_then(|name| self.declared(name));
        let mut cx = NodeCx::new(self, node, origin.clone());
        let results = match import {
            Import::Tensors(row) => Results::Tensors(row(&mut cx)?),
            Import::Complex(row) => match row(&mut cx)? {
                parts if declared.is_some_and(|meta| weights::is_complex(meta.dtype)) => Results::Complex(vec![parts]),
                parts => Results::Tensors(Values::from_elem(ops::complex::side_by_side(&mut cx, parts)?, 1)),
            },
            Import::Number(row) => Results::Number(row(&mut cx)?),
        };
        cx.finish()?;
        self.graph.room(0)?;
        Ok(results)
    }

    /// Applies a node to real and imaginary parts of its operands separately.
    fn partwise(
        &mut self,
        node: &'m Node,
        import: Import,
        origin: &Origin,
        complex: &[&'m str],
    ) -> Result<Results, Refusal> {
        let mut tensors = node.inputs.iter().flat_map(|i| i.arg.names());
        let is_real = |&name: &&str| matches!(self.binding(name), Ok(Binding::Value { .. }));
        if let Some(name) = tensors.find(is_real) {
            return Err(Refusal::Unsupported(format!("{name} is real and other operands are complex")));
        }
        let parts: Vec<(&'m str, Complex)> =
            complex.iter().filter_map(|&name| Some((name, self.complex(name)?))).collect();
        let mut of = |part: usize| {
            for &(name, parts) in &parts {
                self.rebind(name, Binding::Value { value: parts[part], view: None });
            }
            let results = self.imported(node, import, origin);
            for &(name, parts) in &parts {
                self.rebind(name, Binding::Complex(parts));
            }
            match results? {
                Results::Tensors(values) => Ok(values),
                Results::Complex(_) | Results::Number(_) => Err(Refusal::Undefined(node.operator().into())),
            }
        };
        let (re, im) = (of(0)?, of(1)?);
        Ok(Results::Complex(re.into_iter().zip(im).map(|(re, im)| [re, im]).collect()))
    }

    fn bind_results(&mut self, node: &'m Node, values: Values, origin: &Origin) -> Result<(), Refusal> {
        if let Some(target) = ops::writes(node) {
            let old = self.value(target)?;
            let value = NodeCx::new(self, node, origin.clone()).like(values[0], old)?;
            if value != old {
                self.write(target, value)?;
            }
            for name in node.results() {
                let view = self.view(target, How::Same)?;
                self.bind_new(name, Binding::Value { value: view.seen, view: Some(view) })?;
            }
            return Ok(());
        }
        let shown = ops::shows(node);
        for (index, name) in node.tensor_results().enumerate() {
            // Results that the row does not produce are unused, or refused when they are used.
            let Some(&value) = values.get(index) else {
                let message = format!("result {index} of {}", node.operator());
                self.bind(name, Binding::Refused);
                if !name.contains("_unused_") && self.is_read(name) {
                    return Err(Refusal::Unsupported(format!("{message} is not supported")));
                }
                continue;
            };
            self.check(name, value)?;
            if self.graph.name(value).is_none() {
                self.graph.set_name(value, name);
            }
            let view = match shown {
                Some(of) if self.complex(of).is_some() => {
                    self.complex_shown.insert(name);
                    None
                }
                Some(of) => {
                    let seen = self.value(of)?;
                    let same_type = self.graph.ty(seen).elem == self.graph.ty(value).elem;
                    let how = views::how(node, index, self.declared(of), same_type);
                    how.map(|how| self.view(of, how)).transpose()?
                }
                None => None,
            };
            self.bind_new(name, Binding::Value { value, view })?;
        }
        Ok(())
    }

    /// A view of a name in its current state. A view of a whole value refers to the base of that value.
    fn view(&mut self, mut of: &'m str, how: How<'m>) -> Result<View<'m>, Refusal> {
        let seen = self.value(of)?;
        let mut depth = 1;
        while let Binding::Value { view: Some(view), .. } = self.binding(of)? {
            if !matches!(view.how, How::Same) {
                depth += view.depth;
                break;
            }
            of = view.of;
        }
        if depth > views::DEEPEST {
            return Err(Refusal::Unsupported(format!("more than {} views of each other", views::DEEPEST)));
        }
        Ok(View { of, depth, seen, how })
    }

    fn is_read(&self, name: &str) -> bool {
        let graph = &self.program.graph_module.graph;
        let arguments = graph.nodes.iter().flat_map(|n| n.inputs.iter().map(|i| &i.arg));
        arguments.chain(&graph.outputs).any(|a| a.names().contains(&name))
    }

    /// Fails if a value does not have the type that PyTorch declared for it, since the import would be wrong.
    fn check(&mut self, name: &str, value: ValueId) -> Result<(), Refusal> {
        let Some(meta) = self.declared(name) else { return Ok(()) };
        let stored = weights::stored_part(meta.dtype)?;
        self.doubles.computed |= stored == Stored::F64;
        let ty = self.graph.ty(value);
        let fits = |(size, dim): (&Size, &Dim)| match size.expr(&self.symbols).map(Dim::of) {
            Some(declared) => declared.is_some_and(|declared| declared.agreed(dim).is_some()),
            None => true,
        };
        let fits = meta.sizes.len() == ty.rank() && meta.sizes.iter().zip(ty.shape.dims()).all(fits);
        let elem = ty.elem.qparams().map_or_else(|| ty.elem.clone(), |g| g.storage.elem());
        if fits && elem == stored.elem() {
            return Ok(());
        }
        let sizes: Vec<String> = meta.sizes.iter().map(Size::shown).collect();
        Err(Refusal::Invalid(format!(
            "the file declares {}[{}]; its operator gives {ty}",
            stored.elem(),
            sizes.join(",")
        )))
    }
}

/// The error for complex numbers where real ones are read.
fn unread(name: &str) -> Refusal {
    Refusal::Unsupported(format!("{name} is complex, and what reads it is supported for real numbers only"))
}

/// A node's name with its module, and its line in the user's program.
fn origin(node: &Node) -> Origin {
    let name = node.results().next().unwrap_or("");
    let path = match node.modules().next_back() {
        Some((module, _)) if !module.is_empty() => format!("{module}/{name}"),
        _ => name.to_string(),
    };
    match node.metadata.get("stack_trace").and_then(|trace| line(trace)) {
        Some(line) => Origin::at_line(path, node.operator(), line),
        None => Origin::new(path, node.operator()),
    }
}

/// The innermost line of a stack trace outside PyTorch, as `file:line`.
fn line(trace: &str) -> Option<String> {
    let frames = trace.lines().filter_map(|l| {
        let (file, rest) = l.trim().strip_prefix("File \"")?.split_once("\", line ")?;
        Some((file, rest.split(',').next()?))
    });
    let frames: Vec<(&str, &str)> = frames.collect();
    let own = |file: &str| file.contains("/torch/") || file.contains("\\torch\\");
    let (file, number) = frames.iter().rev().find(|f| !own(f.0)).or(frames.last())?;
    Some(format!("{file}:{number}"))
}
