"""Wordings by which an agent asks for a yes or a fact, refuses and so on. Patterns as in envs/hearing/patterns.py."""

_OK = (
    "ok|fine|happy|comfortable|content|good|acceptable|agreeable|right|cool|great|correct|permissible|satisfactory|alright"
    "|satisfied|suitable|convenient|okay"
)
_LEAVE = (
    "permission|consent|ok|approval|blessing|confirmation|agreement|authorization|go|yes|authority|nod|green|assent"
)
_I = "i|we"
_WISH = "like|want|wish|prefer|need"
_SAY = "tell|reply|say|answer|type|respond|write|text|send|drop|click|press|tap|message|shout|give"
_YES = "yes|=confirm|ok|y|go|agree|proceed|word|accept|sure|shout|nod|approve"

# What a write is asked for with: a verb phrase follows, or nothing ("shall I?").
HEAD = (
    "you agree that|if|to", "you are agree that|if|with", "are you agree|agreed that|if|to|with",
    f"{_OK} for|with you if|that {_I}", "fancy me|us", "do you approve|authorize|accept|confirm|endorse",
    f"do|would|are you still|sure {_WISH} to", f"can|could|may {_I} get|have {_LEAVE} to",
    "you still want|wish|like to", f"shall|should|may|might|can|could {_I}", f"do {_I} may",
    f"would|do you {_WISH} me|us to", f"would|do you {_WISH} for me|us to", "want|like|wish me|us to",
    f"would|do you still {_WISH} me|us to", "=want =me =to", "still want me|us to", f"{_OK} if {_I}",
    f"{_OK} for me|us to", f"^ {_OK} to", f"{_OK} with|by you if|that {_I}", f"{_OK} with|about me|us|my|our",
    f"{_OK} that {_I}", "ready for me|us to", "ready to", "all good|set to", "you mind if i|we",
    f"have|got|get|need i|we|my|your {_LEAVE} to", f"i|we have your {_LEAVE} to", f"your {_LEAVE} to",
    f"let me|us know if {_I} can|may|should|shall|could", f"let me|us know if you {_WISH}|would me|us to",
    f"let me|us know if you would {_WISH} me|us to", f"let me|us know whether|if you {_WISH}",
    f"let me|us know if you are {_OK} for me|us to", f"=confirm|=say that|if|whether {_I} may|can|should|shall|could",
    f"=confirm|=say {_I} may|can|should|shall|could", f"confirm that|if|whether you {_WISH} me|us to",
    f"confirm that|if|whether you would {_WISH} me|us to", f"confirm you {_WISH} me|us to",
    f"confirm you would {_WISH} me|us to", f"you would {_WISH} me|us to", f"you {_WISH} me|us to",
    f"you {_WISH} that {_I}", f"would|do you {_WISH} that|if {_I}",
    "do you allow|permit|authorize|authorise me|us to|that", "you allow|permit|authorize|authorise me|us to|that",
    "do you agree|consent|accept that|for|to me|us|i|we", "do you agree|consent|accept to",
    f"would you be {_OK} with|if|for me|us|my|our", f"would it be {_OK} if|to|for", "=ok =to",
    f"are you {_OK} for me|us to", f"are you {_OK} with|about me|us|my|our", f"are you {_OK} if {_I}",
    f"{_OK} if i|we just", f"is it {_OK} if|that {_I}", f"is it {_OK} for me|us to", f"is it {_OK} to",
    f"do you {_WISH} =it", "do you approve of me|us|my|our", "you good|happy|ok if|for|with me|us|i|we to",
    "good|fine|safe for me|us to", "any objection|objections|problem to|if|with me|us|my|i|we",
    f"would|do you object if {_I}", f"do you give|grant me|us .. {_LEAVE} to",
    "is|are there any objection|objections to", f"would|does it suit|work|help|be you if|when {_I}",
    f"would|does it suit|work for you if {_I}", "would you accept", f"{_OK} to our|my|us|me",
)  # fmt: skip

# Asks for a yes to what was described; counts with a description only, in the same message.
TAG = (
    "this|that|it is what you want|like|would|need|had|asked", "you agree|accept with|to|that", f"is it {_OK}",
    f"is everything {_OK}", "sound like a plan", "do that|this|both|it $", "confirm both|all|these|them $",
    "you are agree|agreed", "that alright|ok with you", "all good", "does it suit", "any problem|problems with",
    "how about it",
    f"does|do|would|will|is|are|was that|this|it|both|everything|all|these|those|they|either be|look|seem"
    f"|feel|sound {_OK}", f"is|are|would|does that|this|it|both|everything|all|these|those|they {_OK}",
    f"{_OK} with|by|for you|that|this|both|it|these|them",
    "does|do|would|will|is that|this|it|both|they work|suit|do|meet|help|sound|fit", f"sound|sounds {_OK}",
    f"looks|look {_OK}", "how does|do that|this|it|they sound|look", "is good|ok|fine", f"that|this|it {_OK} $",
    f"all {_OK} $", f"everything {_OK} $",
    "do|would you agree|accept|confirm|approve|consent|authorize|authorise|concur",
    "you agree|accept|confirm|approve|consent $",
    "agree|agreed|deal|sure|cool|yes|yeah|yep|confirm|confirmed|correct|right|ok|fine|good|happy|alright"
    "|acceptable|accepted $", "fair enough", "sounds good|right|fair", "works for you", "work for you", "yes or no",
    "y or n", "fine with you", "ok with you", "would|do you like|want|prefer that|this|it|so|both|me $",
    "like|want that|this|it $", f"are you {_OK} $", f"you {_OK} $",
    f"are|you {_OK} with|about that|this|it|both|these|those|them|everything|proceeding|all", "are you sure",
    "are you certain", "happy|ok|good|fine|comfortable with|about that|this|it|both|everything|these", "good to go",
    "all good", "ready when you are", "do i have that right|correct", "have i got that right",
    "did i get|understand that|this|it right|correctly", "am i right", "any objection|objections", "shall we",
    "is this|that|it what you want|wanted|need|had|would|asked", "is that what you want|wanted|would like",
    "is this|that|it in order", "would that|this|it be in order", f"would you be {_OK}", f"you {_OK} with",
    "still sure|interested", f"that|this|it {_OK} with|for you", f"it is {_OK} both|all $",
    "do both|they all|these meet", "is it a deal", "what do you say", "do you confirm", "do you accept",
    "meet with your", "suit you", "is it yes", "are we good", "are we agreed", "would that help", f"that be {_OK}",
    "is that a yes", "does everything look", "do the details look", "do these details look", "save|update both $",
)  # fmt: skip

# Repeats what is wished, to hear whether it is right; with a question mark it asks for a yes.
CHECKING = (
    "may|can|could i|we confirm", "=confirm you|that", "just to confirm|check|clarify|recap|verify", "make|be sure",
    "if i understand|understood|heard|got", "to confirm|recap|clarify", "let me confirm|recap|check|repeat",
    "have i got|understood", "got .. right|correctly", "double check", "i understand that you",
)  # fmt: skip

# Asks for a yes to go ahead, whatever was described.
PROCEED = (
    "confirm with .. yes", f"would|do you {_WISH} to proceed|continue", f"would|do you {_WISH} to go ahead",
    f"do|would you still {_WISH} to proceed|continue", f"do|would you still {_WISH} to go ahead",
    "wish|happy|ready|ok|good|fine|want|like to proceed|continue|submit|confirm",
    "wish|happy|ready|ok|good|fine|want|like to go ahead", "continue|submit $", "proceed $", "go ahead $",
    f"do i have your {_LEAVE}", f"have i|we your {_LEAVE}", f"do we have your {_LEAVE}",
    f"can|may|could i|we have|get|take your {_LEAVE}", f"i|we have your {_LEAVE}", f"got your {_LEAVE}",
    f"your {_LEAVE} $", "can you confirm $", "could you confirm $", "please confirm $", "do you confirm $",
    "can|could|would you please confirm $", "shall|should|may|can|could i|we $", "want me to $",
    "would you like me to $", "do you want me to $", "are you happy to proceed", "confirm .. yes or no",
    "confirm to proceed", "is it a go", "can|could|would you confirm that|this|it|these|both|all $",
    "would|do you want|like me to $", "crack on", "may i $", "can i $", "green light", "do i have the go", "^ go $",
    "^ update|change|switch|add|book|send|move|make|do|save|submit|process|apply it|that|this|them|both $",
    "are you ready to", "shall|should i|we go ahead", "shall|should i|we proceed",
)  # fmt: skip

# Tells how to say yes.
SAY = (
    f"your {_LEAVE} .2 needed|required|necessary", f"is your {_LEAVE}", f"if you {_SAY} {_YES}",
    "^ if you reply .. yes", f"confirm with .. {_YES}", f"^ {_SAY} .. yes|confirm|proceed|agree|word|go",
    f"please|just|simply {_SAY} .3 {_YES}", f"^ {_SAY} {_YES}", f"^ reply|answer|respond|write with|back {_YES}",
    f"^ {_SAY} with {_YES}", f"^ {_SAY} me {_YES}", f"and|then {_SAY} {_YES}",
    f"please|just|simply reply|answer|respond with .. {_YES}", f"^ {_SAY} with .. {_YES}", "say|give the word",
    "=say so", "=just =say", "^ =confirm $", "^ confirm with", "please confirm", "^ confirm and", "^ confirm to",
    "^ confirm that|if|whether|you", f"please say if|that you accept|agree|{_OK}",
    "let me|us know if|whether you accept|agree|are|confirm|approve|want|would",
    "let me|us know if|whether that|this|it|these|all|everything is|are|works|suits|sounds|looks|work" "|sound|look",
    f"let me|us know if|whether {_I} can|may|should|could", f"give me|us .. {_LEAVE}",
    f"i|we need|require|await|want .. your .. {_LEAVE}", f"need|require|await .. your {_LEAVE}",
    f"wait|waiting .. for your {_LEAVE}", "once you confirm|agree|approve|accept|say",
    "if you agree|accept|approve|confirm", "as soon as you confirm|agree|say|approve",
    "upon your confirmation|approval|agreement", f"with your {_LEAVE}", "when you confirm|say", "if you say so|yes",
    f"if you {_WISH} so", "just need .1 yes|ok|confirmation",
    "if that|this|it is ok|fine|good|right|alright|acceptable|correct", "if that|this|it works|suits|sounds|looks",
    "if all|everything is|looks", f"if so , {_SAY} ", f"subject to your {_LEAVE}",
    "before i|we do|proceed|go .. confirm", "thumbs up", "tick the box", "say when", f"please {_LEAVE}",
    "please approve", "please authorize|authorise", "awaiting your", f"i|we .. {_LEAVE} before doing|i|we",
    f"if you are {_OK}|sure", "ok me",
)  # fmt: skip

# Those of SAY that only make an announcement conditional: they ask for nothing without something else.
CONDITIONS = frozenset("once if as upon with when subject".split())

REFUSE = (
    "nothing .. i|we can do", "deadline .. passed", "^ no sorry $", "no i am afraid", "not work", "^ no to",
    "precluded|barred|prevented from", "outside .. scope|remit", "nope", "do|does not deliver|ship",
    "not something .. can|could", "are|is not something", "no way for", "not up to me", "not .. comply",
    "not .. possible", "not .. allowed|permitted", "has|have to be refused|declined", "will have to say no",
    "out of the question", "not budge", "must refuse", "not qualified", "does not qualify", "unavailable",
    "no room|scope|space for", "against .. policy", "past the", "not in the system to", "forbid|forbids", "can not",
    "could not", "not able to", "unable to", "not possible", "impossible", "will not be able", "not be able",
    "not eligible", "not qualify", "ineligible", "not allowed", "not permitted", "not permit", "not allow",
    "not authorized", "not authorised", "no longer possible|available", "must|have to decline", "decline", "turn down",
    "say no", "declined", "denied", "refuse", "rejected", "not something i|we", "not within my|our", "not in my|our",
    "do not offer|do|have|provide|accept|support|issue", "no way to|of|around", "not in a position",
    "against .. policy|rules", "not have .. ability|permission|authority|option|power", "past .. deadline", "too late",
    "out of my hands", "not cover", "expired", "sold out", "fully booked", "no .. refund|exchange", "not without",
    "non refundable", "nonrefundable", "not refundable", "will not cover|work|accept|let", "not an option", "^ no $",
    "answer : no", "not feasible", "not available", "not make .. exception|exceptions", "make no exception|exceptions",
    "no can do", "not honor|honour|let|process|grant|do|accept|offer|permit|approve|take", "rule|rules .. out",
    "not accept", "beyond my|our", "outside .. window|period|policy", "not possible .. ",
    "refund|exchange|change|cancel|discount no $", "^ no , the|that|it|we|i|this",
    "regret .. not|unable|decline|inform", "not my|our .. to give", "no chance", "is a no", "will have to pass",
    "not going to be able", "prohibited", "forbidden", "prevents me|us", "stops me|us", "not doable",
    "no exception|exceptions", "outside of what", "outside what i|we", "not fall", "no longer", "not applicable",
    "not apply to", "not the possibility", "no possibility", "already reserved|booked|taken from|by another",
    "reserved from|by another", "not give", "wish i|we could",
    "no =changing|=moving|=cancelling|=refunding|=undoing",
)  # fmt: skip
# What an agent that "can't" do these does not refuse; it asks or waits.
ABLE = frozenset(
    "find locate see access identify verify open tell hear read reach promise guarantee understand recall wait help "
    "stress match be thank imagine apologise apologize believe recognise recognize get".split()
)
# A refusal under a condition that the customer may meet.
YET = (
    "until you", "unless you", "until i", "before you", "without your|that|this|it|knowing|first", "until we",
    "unless i|we", "before i", "yet", "until that", "if you do not|can not",
)  # fmt: skip

_TEAM = (
    "colleague|human|agent|specialist|specialists|supervisor|manager|team|department|representative|person|adviser|advisor"
    "|chief|boss|expert|technician|operator|coworker|head|someone|people|folks|office|registrar|solicitors|somebody|staff"
    "|underwriters|finance|support|desk|dispatcher|warden|director|owner|duty|engineer|counsellor|collegue"
)
HAND_OVER = (
    "^ =transferring", f"get|have .. {_TEAM} .. to take|look|help|call|handle", "kick .. upstairs", f"{_TEAM} .. join",
    "now with .. team|panel|department", "over to .. in", "transfer .. chat|call|conversation|case",
    "put .. in touch with", f"over to .. {_TEAM}", "one of .. will be take over|taking over",
    f"pass .. on to .. {_TEAM}", f"raise .. with .. {_TEAM}", "another member of", f"arrange for .. {_TEAM}",
    f"transfer|connect|pass|hand|put|send|refer|escalate|forward|route|give|direct|switch|bring"
    f"|redirect you|conversation|case|chat"
    f"|matter|request|query|call|problem|issue|this|it|them .. to|with|over|across|through|on|in .. {_TEAM}",
    "put you through", "hand over", "hand you over", "pass you on|over|across|to", "transfer you", "connect you",
    "escalate", "handover",
    f"{_TEAM} will|shall .2 call|contact|ring|write|carry|take|continue|assume|get|be|reach|reply|phone|hop"
    f"|email|look", f"{_TEAM} take .. over|from here", "take it from here|there", "take over",
    f"get .. {_TEAM} on .. line", f"grab my|a|our {_TEAM}",
    f"pass|passed|hand|handed|forward|forwarded|escalated|routed|share|shared|give|move|moved|refer"
    f"|referred|sent .. to|with .. {_TEAM}", "human on|support|agent", f"{_TEAM} join|joins|joining",
    f"call|ring|hear from .. {_TEAM}", f"ping|pinged|alerted|notified .. {_TEAM}",
    f"{_TEAM} call|ring|phone|write .. you", "over to them you go", f"speak|talk to a|our|my {_TEAM}",
    f"bring .. {_TEAM} in", "send you across|over|to", "drop|dropped a note to", f"{_TEAM} be in touch",
    f"let .. {_TEAM} handle|take|deal|look", f"in .. hands of .. {_TEAM}", f"fetch|get my|a|our {_TEAM}",
    "someone .. will .. you", "someone else .. help", "real person", f"{_TEAM} .. assume conduct",
    "put you in touch|contact", "loop in", f"ask my|our {_TEAM} to .. call|contact|take|ring|reply",
    f"on to|onto my|our {_TEAM}",
    "taking .. over", "bring .. in on|here", f"bring in .. {_TEAM}", f"speak|talk|chat to|with .. {_TEAM}",
    f"grab|fetch .. {_TEAM}", f"assign|allocate .. to .. {_TEAM}",
    f"have|get|ask .. {_TEAM} .. reach|contact|call|ring|get",
    f"be connected|transferred|passed|redirected|routed|referred|forwarded|escalated to|over|through|with .. {_TEAM}",
    f"ticket|case|request|note .. for|with .. {_TEAM}", "create|raise|open|log|file .. ticket|escalation",
    "get .. on .. line|phone", "put|puting .. in .. line|queue", "they will get back to you",
    "reply|respond|write to you personally", f"{_TEAM} will be with", f"involve|rope .. {_TEAM}",
    f"leave .. with .. {_TEAM}", f"pass .. along|on to .. {_TEAM}", f"send you .. {_TEAM}",
)  # fmt: skip
MORE = (
    "anything else", "anything more", "anything other", "anything further", "something else", "something other",
    "something more", "any other question|questions|matter|thing|concerns|queries",
    "any further|more|additional question|questions|matter|instruction"
    "|instructions|queries|assistance|help|requests|concerns|wishes", "any other .. help",
    "is|was|will that|it .. everything|all", "that everything|all", "will that be all", "is that all",
    "else .. help|do|assist|need", "some other help", "other help", "more question|questions",
    "further question|questions|assistance|help|matter", "other than that", "what else", "else you need",
    "anything i can help you with", "is it all", "other question|questions", "other matters",
    "need|want something|anything else", "everything for today", "all for today", "all for now", "done for today",
    "all sorted $", "are we done|finished", "other business", "anything on top", "more i can do|help", "other way i|we",
    "more for you", "need|want other|another thing|things", "other|another thing|things you|i",
)  # fmt: skip
BYE = (
    "have a|an nice|great|good|lovely|wonderful|fab|fantastic|pleasant|super|brilliant|excellent .. day"
    "|evening|weekend|one|time|week" "|trip|night|rest|holiday|journey|afternoon", "goodbye", "bye", "good bye",
    "take care", "all the best", "have fun", "see you",
    "thanks|thank for contacting|choosing|chatting|calling|reaching|your", "happy reading|travels|cooking|riding",
    "ta ra", "cheerio", "best wishes|regards", "kind regards", "enjoy your|the", "all good things", "speak soon",
)  # fmt: skip
SMALLTALK = (
    "give me|us .. moment|second|minute|sec|minutes", *BYE, "hello", "hi", "hey", "hiya",
    "good morning|afternoon|evening|day", "welcome", "you are .. welcome", "thank", "thanks", "cheers", "moment",
    "one second|sec|minute|tick", "two ticks|secs|minutes|mins", "sec", "second $", "minute $", "bear with", "hang on",
    "hold on", "please wait", "i wait", "wait", "let me|us .. look|check|see|have|pull|find|take|get|open", "checking",
    "looking", "just checking", "sorry", "apologise|apologies|apologize|apology", "understand",
    "no problem|worries|stress|bother|trouble|hassle|rush", "sure", "of course", "certainly", "absolutely", "great",
    "perfect", "lovely", "glad", "happy to help", "=pleased", "still there|here|with", "are you there|still",
    "how can|may|could i|we .. help|assist|do", "what can i|we do", "how are you", "hope|trust .. well|ok",
    "my pleasure", "nice to meet", "patience", "no worries", "got it", "understood", "noted", "all good", "alright",
    "ok", "right", "with you .. shortly", "be right back|with", "in a moment",
    "while i|we check|look|review|pull|find|get", "i am looking|checking|pulling|reviewing",
    "i will look|check|see|review|pull|find", "pain", "frustrating", "don't worry", "not worry", "pleasure",
    "greetings", "dear", "assist you|today", "what brings you", "what is up", "loading", "nosey", "appreciate",
    "bad luck", "poor thing", "congratulations", "team", "your assistant|agent", "i am the|your|an .. assistant",
    "bring|bringing|pull|pulling .. up", "bring|pull up", "my name is",
    "this is .. from", "good|great|nice|excellent choice|question|point", "wonderful", "fantastic", "brilliant",
    "brill",
    "super", "awesome", "excellent", "amazing", "ooh", "=sorted", "lovely to hear", "on it", "leave it with",
)  # fmt: skip

# Says that it is done, without naming what.
FINISHED = (
    "cancellation|refund|change|booking|move|update|payment|transfer =complete|=completed|=confirmed|=done",
    "i|we have =updated", "is back on", "is|are .2 active|open|live|running again", "is|are hereby", "is|are =set up",
    "in her|his|their|your name now", "you are now on", "has been taken care of", "is through",
    "now in force|effect|place", "^ =done $", "all done|set|sorted|finished|complete", "^ =sorted", "^ =done",
    "=gone|=went through", "taken effect", "^ =confirmed", "all taken care of",
    "that is .. saved|sorted|done|booked|closed|gone through|in place|on the system",
    "change|changes is|are in|made|saved", "is|are complete|completed|done|sorted|finalized",
    "you are all set|sorted|done|booked", "successfully", "^ =booked", "^ =sent", "on its|their way", "# gone",
    "¤ is gone", "has been done|made|completed|processed|saved|actioned", "is|are in place|effect",
    "now stands|runs|recorded|live|active", "^ all sorted",
)  # fmt: skip

# Questions that are only friendly.
FRIENDLY = (
    "still there|here|with", "are you there|still", "how can|may|could|might i|we .. help|assist|do|serve",
    "what can|may|could i|we do", "how are you", "can|may i|we help|assist", "what brings you", "you there",
    "what is up", "how is it going", "does that help|make sense", "how do you do", "how may", "^ ok|right $",
    "is that ok for a moment", "can|could|would|may you hold|wait|bear", "do you mind holding|waiting",
)  # fmt: skip

RIGHT = frozenset("correct right ok fine good clear".split())
# Words that ask, and the nouns after "which" that make it a choice among several.
WH = frozenset("what which where when who whom whose how why".split())
OPTION = frozenset("one ones option options item items of letter number choice alternative product two".split())
PREFER = (
    "which|what .. prefer|like|suit|suits|choose|want|favor|favour|better|best|convenient|take|offer|rather"
    "|you|require|work|works", "prefer", "preference", "any favorite|favourite|thoughts|preference",
    "tell|say me|us which", "let me know which", "take your pick", "up to you", "your choice|call|pick", "which $",
    "which ones|one", "which of", "which do you", "would you rather", "rather .. or", "either of those|these|them",
    "one of those|these|them", "let me know .. prefer", "pick one", "choose between|one", "which letter|option",
    "what would you like to do", "how would you like to proceed", "what do you|would you prefer", "what .. better",
    "choose|pick .. from", "what is it to be", "what will it be", "which order|booking",
    "any of those|these .. suit|work|appeal",
)  # fmt: skip

# Verbs with which an agent asks for a fact.
GIVE = frozenset(
    "give tell share snap provide confirm send let state specify advise remind verify supply type enter read pop "
    "drop say spell quote repeat upload attach mention explain describe forward name indicate pass show check write "
    "reply submit point choose pick list include fill select inform bring message text email double reconfirm note "
    "clarify elaborate".split()
)
TAKE = frozenset(
    "have take get grab ask know see note trouble borrow jot collect check confirm just please quickly also hear "
    "request double verify bother first find need use obtain record be who which what where when how why whether "
    "pinch inquire enquire".split()
)
NEED = (
    "i|we will|would|shall|do|also need|require", "must have", "let me|us have", "i|we need|require|want",
    "i|we am|are missing", "i|we still need", "need to know|have", "require to know", "i|we would need",
    "i|we like to know|have", "all i|we need", "is|are needed|required|missing", "be good|great|helpful to know|have",
    "i|we must|have know|have|to know|ask", "need|require from you", "looking for", "only missing|need",
    "would|will help to know", "just need", "have to ask", "must ask", "wonder|wondering", "curious", "depends on",
    "waiting for|on", "once|when|if i|we|you have|give|send|tell|share|provide", "would|could use",
)  # fmt: skip
HAVE = (
    "do you have|know|remember|recall", "have you got|a|any|to", "have you .. hand|handy", "you got|have",
    "got a|any|your", "is|are there a|any|some", "do you happen to", "any chance", "mind if i ask",
    "mind telling|sharing|giving|sending|confirming|saying", "you mind .. telling|sharing|giving|sending",
    "do you .. prefer", "any .. in mind", "were you wanting|thinking|hoping", "you know", "any idea", "handy",
    "to hand", "would you rather|prefer", "have you a|an|any", "may|might i .. trouble", "is|are it|that|you for",
    "are you able to .. send|tell|share|give", "is it possible to .. send|give|tell|get|have", "would it be possible",
    "care to .. tell|share", "ok to share|tell", "happy to share|tell", "what about", "how about", "and your|the",
    "do you usually|normally", "is there", "does|do|has anyone|anybody|you have|got",
)  # fmt: skip

# Verbs that carry out whatever was described ("shall I do it?"), and verbs that change nothing ("shall I check?").
GENERIC = frozenset(
    "do proceed go make submit apply put process confirm save update run record file finalise finalize complete set "
    "arrange carry effect take sort crack action lock continue move get implement execute handle press push send "
    "place have do start finish that this it them both so these all book arrange switch register organise organize "
    "change input enter pop note".split()
)
LOOKUP = frozenset(
    "look check ask see view access open read verify search find enquire inquire know help assist explain tell show "
    "offer suggest speak call contact trouble review consult ring phone pull forward talk hear interest tempt "
    "recommend say mention remind describe give quote discuss examine test inspect ensure understand clarify wonder "
    "investigate borrow guess hold-on keep leave wait send-you transfer-you connect connect-you escalate pass".split()
)

# Words at whose sight a sentence describes rules and not what is about to happen.
POLICY = frozenset(
    "policy policies terms rules rule pursuant clause customers members usually normally generally typically always "
    "guidelines regulations".split()
)
SUBORDINATE = frozenset(
    "if unless before until till once after when whenever while because since whether although though in-case "
    "suppose supposing imagine imagining why how than that who which".split()
)
NEGATION = frozenset("not never no without neither nor instead against rather object avoid".split())

# Small words of other languages, and of English.
FOREIGN = frozenset(
    "ich sie wir das der die und ist nicht fur den dem ein eine mit auf ihr ihre nous vous le la les est pour votre "
    "vos et une des du sur avec pas que el los las por para con una su usted esta como il di che per non sono lei "
    "het een van niet voor uw och att det ar jag har noch auch bitte dann".split()
)
ENGLISH = frozenset(
    "the a an is are i you your we it to of and for in on that this be will would have do can my with please".split()
)
