"""BFCL's own inference loop, Qwen handler and grading, without what their modules import; helper of bfcl_test.py.

The modules import a client of every model vendor. The classes and functions needed here are compiled out of their
source files instead, unchanged, in a namespace that holds what these parts use.
"""

import ast
import contextlib
import copy
import functools
import io
import itertools
import json
import os
import re
import tempfile
import textwrap
import types
import typing
from pathlib import Path

import bfcl_eval
from bfcl_eval.constants import default_prompts, executable_backend_config
from bfcl_eval.eval_checker.multi_turn_eval import multi_turn_checker, multi_turn_utils

os.environ.setdefault("BFCL_PROJECT_ROOT", tempfile.mkdtemp())  # importing utils creates folders there
from bfcl_eval import utils  # noqa: E402

PACKAGE = Path(bfcl_eval.__file__).parent
PARTS = (  # file, classes and functions to compile from it
    ("model_handler/utils.py", ("convert_to_function_call",)),
    ("model_handler/base_handler.py", ("BaseHandler",)),
    ("model_handler/local_inference/base_oss_handler.py", ("OSSHandler",)),
    ("model_handler/local_inference/qwen_fc.py", ("QwenFCHandler",)),
    ("eval_checker/eval_runner.py", ("_evaluate_single_multi_turn_entry",)),
)
_numbers = itertools.count()


def _compiled() -> types.SimpleNamespace:
    """The parts, by name."""
    namespace = {"EnforceOverrides": object, "override": lambda f: f, "final": lambda f: f, "json": json, "re": re}
    namespace |= {"deepcopy": copy.deepcopy, "ModelStyle": object, "ReturnFormat": object}
    for module in (typing, utils, default_prompts, executable_backend_config, multi_turn_utils, multi_turn_checker):
        namespace |= {name: value for name, value in vars(module).items() if not name.startswith("__")}
    for file, names in PARTS:
        found = [n for n in ast.parse((PACKAGE / file).read_text()).body if getattr(n, "name", "") in names]
        exec(compile(ast.Module(found, []), file, "exec"), namespace)
    return types.SimpleNamespace(**namespace)


OFFICIAL = _compiled()


def chat_template() -> str:
    """Qwen3's chat template, which stands in the handler's documentation."""
    source = (PACKAGE / "model_handler/local_inference/qwen_fc.py").read_text()
    return textwrap.dedent(source.split('"chat_template":\n')[1].split('"""')[0]).strip()


class Scripted(OFFICIAL.QwenFCHandler):
    """The official handler with texts instead of a model. `prompts`: what it would have sent, step by step."""

    def __init__(self, texts):
        self.model_name_underline_replaced = f"official_{next(_numbers)}x"
        self.texts, self.prompts = iter(texts), []

    def _query_prompting(self, inference_data):
        self.prompts.append(self._format_prompt(inference_data["message"], inference_data["function"]))
        usage = types.SimpleNamespace(prompt_tokens=0, completion_tokens=0)
        return types.SimpleNamespace(choices=[types.SimpleNamespace(text=next(self.texts))], usage=usage), 0.0


def play(task_id, texts):
    """(prompts, whether it is valid) of the official loop and grading when the policy says these texts."""
    category = task_id.rsplit("_", 1)[0]
    index = int(task_id.rsplit("_", 1)[1])
    entry = copy.deepcopy(entries(category)[index])
    handler = Scripted(texts)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            results, _ = handler.inference_multi_turn_prompting(entry, include_input_log=False, exclude_state_log=True)
        name = handler.model_name_underline_replaced
        truth = truths(category)[index]["ground_truth"]
        entry = copy.deepcopy(entries(category)[index])
        graded = OFFICIAL._evaluate_single_multi_turn_entry(handler, task_id, results, truth, entry, name, category)
    finally:
        for key in [k for k in vars(multi_turn_utils) if k.startswith(handler.model_name_underline_replaced)]:
            del vars(multi_turn_utils)[key]
    return handler.prompts, graded["valid"]


@functools.cache
def entries(category):
    """The package's tasks of a category, as its own loader gives them."""
    return utils.load_dataset_entry(category)


@functools.cache
def truths(category):
    return utils.load_ground_truth_entry(category)
