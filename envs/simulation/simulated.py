"""Tools and user played by a language model, as in the paper; for comparison with the executable worlds.

To play a tool, the model gets the initial state, what the tools do and the calls so far. To play the user, it gets the
user's script and the conversation. It never gets the branch, the oracle or what is rewarded. Only the model itself
keeps its answers consistent; equal conversations get equal answers from the client's cache. The user's answer has a
field which says whether the conversation is over, so no text of the agent can end it.
"""

from __future__ import annotations

import json
from typing import Any

from envs import tools
from envs.base import Message, Score, Step
from synth.task import Task
from synth.teachers.llm import Client, Question

TOOLS = """You play the tools of a {domain} desk.
State at the beginning: {state}
What each tool does: {effects}
Calls so far and their results: {calls}
The call now: {call}
Answer with the result of this call alone, consistent with all of this, as a JSON object: {{"result": {{...}}}}. A
record that is read has all its fields as they are by now; a write gives {{"ok": true}}; what fails gives
{{"error": "..."}}."""
USER = """You play the user of a {domain} desk, who wrote the first message. What you want and know: {script}
"withheld" details are told only when asked for; you consent to the change if "accepts" says so, with the change that
"amends" names; of "insists" you say one each time you are refused; "later" requests with a "request" are brought up
once the earlier ones are settled. Say nothing that is not in there.
The conversation so far, without what you cannot see:
{conversation}
Answer with a JSON object: {{"message": "what you say next", "ends": false}}; "ends" is true, and the message empty,
when all you want has been done or refused and there is nothing left to say."""
RESULT = {
    "type": "object", "properties": {"result": {"type": "object"}}, "required": ["result"],
    "additionalProperties": False,
}  # fmt: skip
ANSWER = {
    "type": "object", "properties": {"message": {"type": "string"}, "ends": {"type": "boolean"}},
    "required": ["message", "ends"], "additionalProperties": False,
}  # fmt: skip


class Simulated:
    """One episode of one task; implements envs.base.Env except for the reward, which the judge gives."""

    def __init__(self, task: Task, client: Client):
        self.task, self.tools = task, task.tools
        self._client = client
        self._validators = tools.validators(task.tools)
        self._calls: list[dict[str, Any]] = []
        self._said: list[Message] = []
        self._done = False

    async def reset(self) -> list[Message]:
        """Returns the system message (the policy text) and the user's request."""
        self._said = [{"role": "user", "content": self.task.user["request"]}]
        return [{"role": "system", "content": self.task.policy}, *self._said]

    async def step(self, message: Message) -> Step:
        """Has the model play the called tools or, if there is no call, answer as the user.

        Raises RuntimeError if the episode has ended or answers stay malformed, llm.NoAnswer if there is none.
        """
        if self._done:
            raise RuntimeError(f"{self.task.id}: step after the episode ended")
        calls = message.get("tool_calls") or []
        if not calls:
            return await self._answer(message.get("content") or "")
        results: list[Message] = []
        for call in calls:
            content = json.dumps(await self._result(call["function"]))
            results.append({"role": "tool", "tool_call_id": call["id"], "content": content})
            if self._done:
                break
        return Step(results, self._done)

    async def _result(self, function: dict[str, str]) -> dict[str, Any]:
        """The result of one call. Code answers invalid calls, declines and transfers; the model answers the rest."""
        name = function["name"]
        arguments, error = tools.parse_arguments(self._validators, name, function["arguments"])
        if error:
            return {"error": error}
        effect = self.task.effects[name]
        if effect["kind"] == "control":
            self._done = effect["outcome"] == "transfer"
            return {"ok": True}
        call = {"tool": name, "arguments": arguments}
        text = TOOLS.format(
            domain=self.task.domain, state=json.dumps(self.task.state), effects=json.dumps(self.task.effects),
            calls=json.dumps(self._calls), call=json.dumps(call),
        )  # fmt: skip
        result = (await self._ask(text, RESULT))["result"]
        self._calls.append({**call, "result": result})
        return result

    async def _answer(self, text: str) -> Step:
        """The user's answer to a message."""
        self._said.append({"role": "assistant", "content": text})
        hidden = ("yes", "no", "verb")  # wording of the scripted user
        script = {key: value for key, value in self.task.user.items() if key not in hidden}
        said = "\n".join(json.dumps(message) for message in self._said)
        asked = USER.format(domain=self.task.domain, script=json.dumps(script), conversation=said)
        answer = await self._ask(asked, ANSWER)
        self._done = answer["ends"]
        if self._done:
            return Step([], True)
        self._said.append({"role": "user", "content": answer["message"]})
        return Step(self._said[-1:], False)

    async def _ask(self, text: str, schema: dict[str, Any]) -> dict[str, Any]:
        """The model's answer. Raises llm.NoAnswer if there is none, RuntimeError if answers stay malformed."""
        answer = await self._client.ask(Question([{"role": "user", "content": text}], schema))
        if answer is None:
            raise RuntimeError(f"{self.task.id}: the simulator's answers stayed malformed")
        return answer

    async def score(self) -> Score:
        """No reward: there is no state from which code could compute one."""
        return Score(None, {}, [], error="simulated: no reward by code", reward_source="llm")

    def close(self) -> None:
        """Does nothing: the instance holds no outside resources."""
