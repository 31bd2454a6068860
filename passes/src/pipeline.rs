//! The passes of a compilation as data: a list in stages that can be read, changed and run in part.

use std::fmt;
use std::ops::{ControlFlow, RangeBounds};
use std::sync::Arc;

use qcc_ir::ops::OpKind;
use qcc_ir::{Graph, NodeId, Origin, ValueId};
use rustc_hash::FxHashSet;

use crate::bodies::Bodies;
use crate::device_interface::DeviceInterface;
use crate::layout::{self, ImageOrder, layout};
use crate::lower::lower;
use crate::open_batch::OpenBatch;
use crate::pass::{Context, Pass, PassError};
use crate::precision::{HalfValues, HalfWeights};
use crate::quantize::{self, Activations, CompleteQdq, Dynamic, ImportQdq, Quantize, SpellQdq};
use crate::simplify::{simplify, tidy};

/// A section of the pipeline. Each stage establishes what the next one relies on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// The imported float graph is simplified. The stage runs once for all targets, so its passes must not read
    /// [`Context::target`].
    Simplify,
    /// The graph is lowered to the operators of its target. Calibration measures the graph that this stage leaves.
    Lower,
    /// The calibrated graph is quantized, or converted to 16-bit floats.
    Quantize,
    /// The memory layout of each value is chosen, and constants get their final form.
    Layout,
    /// Extents that are dynamic in the source become symbols again. Backends write the graph that this stage leaves.
    Finish,
}

impl Stage {
    /// All stages, in order.
    pub const ALL: [Stage; 5] = [Stage::Simplify, Stage::Lower, Stage::Quantize, Stage::Layout, Stage::Finish];

    /// The name of the stage.
    pub const fn name(self) -> &'static str {
        match self {
            Stage::Simplify => "simplify",
            Stage::Lower => "lower",
            Stage::Quantize => "quantize",
            Stage::Layout => "layout",
            Stage::Finish => "finish",
        }
    }
}

/// A pass and its stage. The same pass name may occur in several stages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PassId {
    /// The stage.
    pub stage: Stage,
    /// The name of the pass.
    pub name: &'static str,
}

impl PassId {
    /// True if `asked` is `NAME` or `STAGE/NAME` of this pass.
    pub fn is(&self, asked: &str) -> bool {
        match asked.split_once('/') {
            Some((stage, name)) => stage == self.stage.name() && name == self.name,
            None => asked == self.name,
        }
    }
}

impl fmt::Display for PassId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.stage.name(), self.name)
    }
}

/// A name that matches no pass of a pipeline, or several.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{asked} names {} of the passes {}", if *.several { "more than one" } else { "none" }, .known.join(", "))]
pub struct UnknownPass {
    /// The name that was given.
    pub asked: String,
    /// True if the name matches several passes.
    pub several: bool,
    /// All passes of the pipeline, as `STAGE/NAME`.
    pub known: Vec<String>,
}

/// The numeric precision of a compiled graph.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub enum Numbers {
    /// The precision of the source.
    #[default]
    Source,
    /// Weights are 16-bit floats.
    HalfWeights,
    /// Values are 16-bit floats where the target computes with them.
    HalfValues,
    /// Weights and activations, or weights only, are quantized.
    Quantized(quantize::Options),
}

/// The options that determine the passes of a pipeline.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The numeric precision.
    pub numbers: Numbers,
    /// The element types of the graph inputs and outputs, where it differs from the source.
    pub interface: quantize::Interfaces,
    /// The order of the axes of images at inputs and outputs.
    pub layout: layout::Interface,
}

impl Default for Settings {
    fn default() -> Self {
        let layout = layout::Interface { input: ImageOrder::Nhwc, output: ImageOrder::Nhwc };
        Settings { numbers: Numbers::Source, interface: quantize::Interfaces::default(), layout }
    }
}

/// The bodies of loops have images as the source model has them.
const AS_READ: layout::Interface = layout::Interface { input: ImageOrder::Nchw, output: ImageOrder::Nchw };

/// An ordered list of passes, each in a stage.
///
/// ```
/// use qcc_passes::{Pipeline, Settings, Stage};
/// let mut pipeline = Pipeline::new(&Settings::default());
/// pipeline.remove("layout/tidy")?;
/// let last = pipeline.ids().last().unwrap();
/// assert_eq!(last.to_string(), "finish/open-batch");
/// # Ok::<_, qcc_passes::UnknownPass>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Pipeline {
    passes: Vec<(Stage, Arc<dyn Pass>)>,
}

fn bodies(passes: Vec<Box<dyn Pass>>) -> Bodies {
    Bodies { name: "bodies", passes }
}

/// What gives graphs inside operators their precision. Their activations are not calibrated: 8-bit models have 8-bit weights
/// there where kernels take these with floating-point activations.
fn in_bodies(numbers: &Numbers) -> Option<Box<dyn Pass>> {
    match numbers {
        Numbers::HalfValues => Some(Box::new(HalfValues { interface: quantize::Interfaces::default() })),
        Numbers::Quantized(options) if options.activations != Activations::Bits16 => {
            let interface = quantize::Interfaces::default();
            let weights_only = Activations::Float;
            let options =
                quantize::Options { activations: weights_only, interface, raised: Vec::new(), ..options.clone() };
            Some(Box::new(Quantize(options)))
        }
        _ => None,
    }
}

impl Pipeline {
    /// A pipeline without passes.
    pub fn empty() -> Self {
        Pipeline::default()
    }

    /// The passes that compile a graph.
    pub fn new(settings: &Settings) -> Self {
        let mut p = Pipeline::empty();
        p.push(Stage::Simplify, SpellQdq);
        p.extend(Stage::Simplify, simplify());
        p.push(Stage::Simplify, bodies(simplify()));
        p.extend(Stage::Lower, lower(matches!(settings.numbers, Numbers::Quantized(_))));
        p.extend(Stage::Lower, tidy());
        p.push(Stage::Lower, bodies(lower(false).into_iter().chain(tidy()).collect()));
        if let Numbers::Quantized(options) = &settings.numbers
            && options.activations != Activations::Float
        {
            p.push(Stage::Quantize, CompleteQdq(options.clone()));
        }
        let dynamic = match &settings.numbers {
            Numbers::Quantized(options) => options.dynamic,
            // The numbers are those of the source.
            Numbers::Source | Numbers::HalfWeights | Numbers::HalfValues => Dynamic::Never,
        };
        p.push(Stage::Quantize, ImportQdq { interface: settings.interface.clone(), dynamic });
        match &settings.numbers {
            Numbers::Quantized(options) => p.push(Stage::Quantize, Quantize(options.clone())),
            Numbers::HalfValues => p.push(Stage::Quantize, HalfValues { interface: settings.interface.clone() }),
            Numbers::Source | Numbers::HalfWeights => {}
        }
        if let Some(pass) = in_bodies(&settings.numbers) {
            p.push(Stage::Quantize, bodies(vec![pass]));
        }
        p.extend(Stage::Layout, vec![layout(settings.layout)]);
        p.extend(Stage::Layout, tidy());
        p.push(Stage::Layout, bodies(std::iter::once(layout(AS_READ)).chain(tidy()).collect()));
        p.push(Stage::Layout, DeviceInterface);
        // This pass comes last: constant folding would widen the weights again.
        let exact = match settings.numbers {
            Numbers::HalfWeights => Some(false),
            Numbers::Source => Some(true),
            Numbers::HalfValues | Numbers::Quantized(_) => None,
        };
        if let Some(exact) = exact {
            p.push(Stage::Layout, HalfWeights { exact });
            p.push(Stage::Layout, Bodies { name: "half-bodies", passes: vec![Box::new(HalfWeights { exact })] });
        }
        p.push(Stage::Finish, OpenBatch);
        p
    }

    /// Adds a pass at the end of a stage.
    pub fn push(&mut self, stage: Stage, pass: impl Pass + 'static) {
        self.push_shared(stage, Arc::new(pass));
    }

    /// Like [`Pipeline::push`], for a pass that several pipelines may share.
    pub fn push_shared(&mut self, stage: Stage, pass: Arc<dyn Pass>) {
        let place = self.passes.partition_point(|(s, _)| *s <= stage);
        self.passes.insert(place, (stage, pass));
    }

    /// Adds a pass at the start of a stage.
    pub fn push_first(&mut self, stage: Stage, pass: Arc<dyn Pass>) {
        let place = self.passes.partition_point(|(s, _)| *s < stage);
        self.passes.insert(place, (stage, pass));
    }

    pub(crate) fn extend(&mut self, stage: Stage, passes: Vec<Box<dyn Pass>>) {
        passes.into_iter().for_each(|pass| self.push_shared(stage, pass.into()));
    }

    /// Inserts a pass before the one called `at` (`NAME` or `STAGE/NAME`), in the same stage.
    ///
    /// # Errors
    /// If `at` matches no pass or several.
    pub fn insert_before(&mut self, at: &str, pass: impl Pass + 'static) -> Result<(), UnknownPass> {
        let place = self.find(at)?;
        self.passes.insert(place, (self.passes[place].0, Arc::new(pass)));
        Ok(())
    }

    /// Inserts a pass after the one called `at`, in the same stage.
    ///
    /// # Errors
    /// If `at` matches no pass or several.
    pub fn insert_after(&mut self, at: &str, pass: impl Pass + 'static) -> Result<(), UnknownPass> {
        let place = self.find(at)?;
        self.passes.insert(place + 1, (self.passes[place].0, Arc::new(pass)));
        Ok(())
    }

    /// Replaces the pass called `at`.
    ///
    /// # Errors
    /// If `at` matches no pass or several.
    pub fn replace(&mut self, at: &str, pass: impl Pass + 'static) -> Result<(), UnknownPass> {
        let place = self.find(at)?;
        self.passes[place].1 = Arc::new(pass);
        Ok(())
    }

    /// Removes the pass called `at`.
    ///
    /// # Errors
    /// If `at` matches no pass or several.
    pub fn remove(&mut self, at: &str) -> Result<(), UnknownPass> {
        let place = self.find(at)?;
        self.passes.remove(place);
        Ok(())
    }

    /// Removes all passes after the one called `at`.
    ///
    /// # Errors
    /// If `at` matches no pass or several.
    pub fn end_after(&mut self, at: &str) -> Result<(), UnknownPass> {
        let place = self.find(at)?;
        self.passes.truncate(place + 1);
        Ok(())
    }

    /// Returns the pass called `at` and its stage.
    ///
    /// # Errors
    /// If `at` matches no pass or several.
    pub fn get(&self, at: &str) -> Result<(Stage, Arc<dyn Pass>), UnknownPass> {
        let (stage, pass) = &self.passes[self.find(at)?];
        Ok((*stage, Arc::clone(pass)))
    }

    /// The passes in execution order.
    pub fn ids(&self) -> impl Iterator<Item = PassId> {
        self.passes.iter().map(|(stage, pass)| PassId { stage: *stage, name: pass.name() })
    }

    fn find(&self, at: &str) -> Result<usize, UnknownPass> {
        let mut places = self.ids().enumerate().filter(|(_, id)| id.is(at)).map(|(place, _)| place);
        match (places.next(), places.next()) {
            (Some(place), None) => Ok(place),
            (_, second) => Err(UnknownPass {
                asked: at.into(),
                several: second.is_some(),
                known: self.ids().map(|id| id.to_string()).collect(),
            }),
        }
    }

    /// Runs the passes of some stages in order. After each pass that [applies](Pass::applies), dead nodes are removed
    /// and the graph is verified. `after` is called after each pass with the graph and may cancel the run.
    ///
    /// # Errors
    /// The error of the first pass that fails, [`PassError::Verify`] if a pass leaves an invalid graph, and
    /// [`PassError::Cancelled`] if `after` cancels the run.
    pub fn run(
        &self,
        stages: impl RangeBounds<Stage>,
        g: &mut Graph,
        cx: &mut Context<'_>,
        after: &mut dyn FnMut(PassId, &Graph) -> ControlFlow<()>,
    ) -> Result<(), PassError> {
        for (stage, pass) in self.passes.iter().filter(|(stage, _)| stages.contains(stage)) {
            if pass.applies(cx) {
                let known = Known::take(g, cx);
                pass.run(g, cx)?;
                g.sweep();
                g.verify().map_err(|error| PassError::Verify { pass: pass.name(), error })?;
                known.give_back(g, cx);
            }
            if after(PassId { stage: *stage, name: pass.name() }, g).is_break() {
                return Err(PassError::Cancelled);
            }
        }
        Ok(())
    }
}

/// The calibrated values and their producers while a pass runs. A pass may remove a node, and a new node may reuse its
/// id, so an id alone does not identify a value.
struct Known(Vec<(ValueId, ValueId, OpKind, Origin)>);

impl Known {
    fn take(g: &Graph, cx: &mut Context<'_>) -> Self {
        let all = std::mem::take(&mut cx.values).into_iter();
        Known(all.map(|(old, new)| (old, new, g.op(new.node).kind(), g.origin(new.node).clone())).collect())
    }

    /// Keeps the entries whose values still exist, unless the pass updates the mapping itself.
    fn give_back(self, g: &Graph, cx: &mut Context<'_>) {
        if !cx.values.is_empty() || self.0.is_empty() {
            return;
        }
        let live: FxHashSet<NodeId> = g.order().into_iter().collect();
        let same = |(_, new, kind, origin): &(ValueId, ValueId, OpKind, Origin)| {
            live.contains(&new.node) && g.op(new.node).kind() == *kind && g.origin(new.node) == origin
        };
        cx.values = self.0.into_iter().filter(same).map(|(old, new, ..)| (old, new)).collect();
    }
}

/// A callback for [`Pipeline::run`] that ignores the graph and never cancels.
pub fn ignore(_: PassId, _: &Graph) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Nothing;

    impl Pass for Nothing {
        fn name(&self) -> &'static str {
            "nothing"
        }

        fn run(&self, _: &mut Graph, _: &mut Context<'_>) -> Result<(), PassError> {
            Ok(())
        }
    }

    fn names(p: &Pipeline) -> Vec<String> {
        p.ids().map(|id| id.to_string()).collect()
    }

    #[test]
    fn the_list_is_what_runs() {
        insta::assert_snapshot!(names(&Pipeline::new(&Settings::default())).join(" "));
        let numbers = Numbers::Quantized(quantize::Options::default());
        insta::assert_snapshot!(names(&Pipeline::new(&Settings { numbers, ..Settings::default() })).join(" "));
    }

    #[test]
    fn passes_are_placed_by_name() {
        let mut p = Pipeline::empty();
        p.push(Stage::Layout, Nothing);
        p.push(Stage::Simplify, Nothing);
        assert_eq!(names(&p), ["simplify/nothing", "layout/nothing"]);
        let error = p.remove("nothing").unwrap_err();
        assert!(error.several && error.to_string().contains("more than one"), "{error}");
        assert!(!p.insert_after("lower/nothing", Nothing).unwrap_err().several);
        let mut p = Pipeline::new(&Settings::default());
        p.insert_before("decompose", Nothing).unwrap();
        p.insert_after("lower/nothing", Nothing).unwrap();
        p.remove("lower/nothing").unwrap_err();
        p.replace("recognise", Nothing).unwrap();
        p.end_after("decompose").unwrap();
        assert_eq!(names(&p).last().unwrap(), "lower/decompose");
        assert_eq!(names(&p)[1], "simplify/nothing");
    }

    #[test]
    fn a_run_stops_where_it_is_told() {
        let mut p = Pipeline::empty();
        (0..3).for_each(|_| p.push(Stage::Lower, Nothing));
        let (mut g, mut cx, mut seen) = (Graph::new("g"), Context::new(&crate::testing::BARE), 0);
        let mut stop_at_two = |_: PassId, _: &Graph| {
            seen += 1;
            if seen == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        assert!(p.run(..Stage::Lower, &mut g, &mut cx, &mut stop_at_two).is_ok());
        assert_eq!(p.run(.., &mut g, &mut cx, &mut stop_at_two), Err(PassError::Cancelled));
        assert_eq!(seen, 2);
    }
}
