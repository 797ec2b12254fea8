"""How people name the writes that businesses offer, by family. Patterns as in envs/hearing/patterns.py.

Of the patterns that stand at one place the one with most words counts: "change .. address" goes before "change". "¤"
is an amount of money.
"""

_CHANGE = "change|update|amend|alter|modify|edit|set|switch|replace|save|adjust|correct|put|make|swap|register|record"
_STOP = "cancel|stop|end|terminate|drop|quit|discontinue"
_NUMBER = "#|two|three|four|five|six|seven|eight|nine|ten|twelve"
_SEND = "ping|shoot|furnish|send|email|post|mail|forward|issue|resend|dispatch|deliver|fax|text|supply|provide"
_PLAN = "plan|membership|tier|tariff|package|cover|level|subscription|class|version|contract|policy|room|pitch"
_FEE = "fee|charge|charges|fine|penalty|surcharge|cost|costs"
_PAPER = (
    "receipt|invoice|copy|document|certificate|statement|quote|letter|pdf|itinerary|label|bill|contract|brochure|paperwork"
    "|voucher|transcript|form|report|prescription|ticket|summary|record|records|duplicate"
)
_CONTACT = "email|phone|telephone|mobile|number|contact|landline|details|cell"
_MEANS = "card|payment|bank|paypal|debit|iban|wallet|visa|mastercard|order"

FAMILIES: dict[str, tuple[str, ...]] = {
    "cancel": (
        "cancel", "terminate", "annul", "void", "call off", "call .. off", "scrap", "cancellation", "rescind",
        "discontinue", "revoke", f"end .. {_PLAN}|hire|lease|agreement|rental|tenancy",
        f"stop .. {_PLAN}|lessons|deliveries|order|service|classes", "withdraw .. booking|order|application|request",
        "delete .. booking|order|reservation|appointment", "drop .. class|booking|course|lesson", "axe", "abort",
        "take .. off .2 schedule|calendar|list|books|diary|system", "unsubscribe", "get rid of .. booking|order",
        "knock .. head",
    ),
    "cancel_renewal": (
        f"{_STOP}|disable .. renewal|autorenewal|autorenew|renewing",
        "switch|turn|take .. off .. renewal|autorenewal|renew", "switch|turn|take off .. renewal|autorenewal|renew",
        "switch|turn .. renewal|renew off", "renewal off", "renewal : off", "stop .. from renewing", "autorenewal off",
        "let .. lapse|expire", "not renew", "not be renewed", "auto renew off", "not to renew", "stop .. renew",
        "remove .. auto renewal", "non renewal",
    ),
    "refund": (
        "send|give|pay|put|get .. ¤ .. back", "receive ¤ back", "give|pay|send .. back #", "# back", "pay back #",
        "refund", "reimburse", "reimbursement", "repay", "pay back", "pay .. back",
        "give .. back .. ¤|money|fee|deposit", "give|send|put|return|transfer|wire|get|pay ¤ .. back",
        "give|send|put|get .. ¤ back", "send|give|put back ¤", "return ¤", "return .. ¤ .. card|account|bank|you",
        "money back", "¤ .. back to|on|onto|into", "¤ .. back", "put .. back on|onto .. card|account",
        "put|pop|get ¤ .. back on|onto|to .. card|account",
        "send .. money back", "credit .. card", "return .. deposit|money|payment", "give .. money back",
        "head back .. card|account", "send back ¤", "back to .. card", "give back .. fee|deposit|¤",
        "hand .. back .. ¤|money", "issue .. refund", "process .. refund", "make .. refund", "compensate",
    ),
    "apply_credit": (
        "credit ¤", "credit .. account|invoice|balance|profile", "¤ .. credit",
        "apply|add|give|put|issue|book|grant|place" "|post .. credit", "goodwill credit", "credit",
        "stick|pop|whack|drop .. credit",
        "apply|add|give|issue|grant .. discount|voucher|coupon", "take .. ¤ off .. invoice|bill|order|next",
        "knock .. ¤ off", "goodwill .. ¤", "add|put ¤ to|on|onto .. account",
        "apply .. ¤ .. to|against .. invoice|account|bill", "store credit", "top up", "top .. up",
        "deduct .. from .. invoice",
    ),
    "charge": (
        "¤ to .. card", "charge", "bill", "take .. ¤|payment", "take ¤ .. from", "debit", "deduct",
        "collect .. ¤|payment|fee|deposit", "run .. card|payment", "run ¤", "process .. payment", "charge ¤",
        "charge .. ¤", "¤ .. charge", "go on .. card", "¤ taken", "take .. deposit|fee", "draw .. ¤",
        "put .. ¤ on .. card|account|tab|room", "put ¤ .. on .. card", "pay .. invoice|bill|balance", "make .. payment",
        "levy", "invoice .. for",
    ),
    "reschedule": (
        "put|bring|take|set .. to|on .. monday|tuesday|wednesday|thursday|friday|saturday|sunday",
        "go from .. to .. monday|tuesday|wednesday|thursday|friday|saturday|sunday", "reschedule", "rearrange",
        "rebook", "postpone", "push back", "push .. back", "push .. to", "bring forward", "bring .. forward", "move",
        "move .. to", "shift", f"{_CHANGE} .. date|day|time|slot|appointment|booking|hour|start", "put back .. to",
        "put .. back to .. week|day|month", "delay", "change .. to .. monday|tuesday|wednesday|thursday",
        "new date|time|day|slot", f"{_CHANGE} .. date|day|time|slot|start .. to",
        f"{_CHANGE} .. from .. to #date", f"{_CHANGE} .. to #date", "change .. to .. friday|saturday|sunday",
        "pull .. forward", "defer",
        "swap .. day|date", "reschedule .. to", "when : #", "pop .. over to",
        "switch .. to .. day|morning|afternoon|evening",
        "switch .. to .. monday|tuesday|wednesday|thursday|friday|saturday|sunday", "relocate .. to .. date",
        "bump .. to|back", "re arrange", "rearrangement",
    ),
    "extend": (
        "make .. longer", "keep .. to|till|until", "extend", "prolong", "lengthen", "stretch",
        "keep .. until|till|longer", "give .. more time|days", "longer .. until", "extra day|days|week|night|nights",
        "add .. day|days|week|weeks|night|nights|month|months|hour|hours", "stay on until|till", "run .. on until|till",
        "push .. end date", "extend .. deadline|time|hire|stay", "prolongation",
    ),
    "renew": (
        "renew", "renew .. for|until|till", "re new", "sign .. up .. another year", "another year",
    ),
    "upgrade": (
        "big|bigger|larger .. for # .. more", "upgrade", "move .. up to", "up to .. plan|membership|gold|premium",
        "bump .. up", f"switch|move|change .. {_PLAN}", f"switch|move|put|place .. on|onto|to .. {_PLAN}", "upsize",
        "moving to .. cover", "go up to", "step .. up to", "now on", "bigger .. for .. more|extra",
        "big|bigger|larger .. for ¤ more", "up to", "premium .. rise", "move up", "take .. up a", "step up",
    ),
    "downgrade": (
        "downgrade", "move .. down", "drop .. down", "drop down", "step .. down", "go down to", "bring .. down to",
        f"switch|move|change .. {_PLAN}", f"switch|move|put|place .. on|onto|to .. {_PLAN}",
        "smaller|cheaper|lower plan", f"smaller|cheaper|lower|basic {_PLAN}",
        "drop .. to .. plan|tier|package|basic|standard",
        "switch|move|change|put|reduce .. smaller|cheaper|lower|basic",
    ),
    "change_plan": (f"switch|move|change|put|place .. {_PLAN}", "upgrade", "downgrade"),
    "add_item": (
        "stick .. on", "minus # .. plus", "add", "include", "put .. on .. order|booking|there|reservation|account|hire",
        "pop .. on|in", "throw in", "throw .. in", "addition", "stick .. on .. order|booking|there", "tack .. on",
        "extra .. added", "attach", "slip .. in", "put .. in .. order|basket|box|parcel", "put on .. order",
        "plus .. loan", "place .. on .. order", "chuck .. in", "bring .. along", "adding", "bung .. on|in",
        "an extra .. on",
        "extra .. on .. order|booking|bill",
    ),
    "remove_item": (
        "minus #", "remove", "take out", "take off", "take away", "take .. out|off|away", "drop .. from",
        "leave .. out", "leave out", "removal", "delete", "strip", "strip .. out|off", "knock .. off .. order|booking",
        "cut .. from", "remove .. from", "cancel .. add|addon|extra|extras", "exclude", "drop the .. off",
        "pull .. from .. order", "not include", "scratch from", "took away", "omit", "deduct .. item",
    ),
    "exchange": (
        "exchange", "swap", "swap .. for", "trade .. for|in", "change .. for .. new|another|other|size|larger|smaller",
        "exchange .. for|with", "swap over", "replace .. with .. size|larger|smaller|bigger", "swop",
    ),
    "change_item": (
        f"{_CHANGE} .. color|size|finish|material|flavor|filling|model|style|type|option|wood|paper|menu"
        f"|meal|seat|room", "substitute", "swap .. for .. on .. order", "change .. from .. to", "switch .. from .. to",
        "replace .. with", "swap", "change .. to", "switch .. to", "go with .. instead", "have .. instead of",
        "make it .. instead", "swap .. on .. order", "change", "alter", "modify", "update .. order",
    ),
    "send_replacement": (
        "replace", "replacement", "send .. replacement|again|another", "resend", "reship", "redeliver", "reprint",
        "remake", "post|mail|ship|dispatch|send|deliver|courier|bring .. new|fresh|another|replacement|second|spare",
        "send again", "get .. resent", "ship .. again|out", "send out .. new|fresh|another",
        "new|fresh|another .. on .. way", "new|fresh|another .. out|over to", "get .. new|fresh|another .. out",
        "fresh .. come out", "make .. again", "re print", "re do", "redo",
        "ship .. new", "re deliver", "send .. over .. new",
    ),
    "return": (
        "log|process|raise .. return", "return", "take .. back", "send .. back", "register .. return", "come back",
        "collect .. from you", "arrange|book|open|create|set|start|authorise|register .. return|pickup",
        "return .. item|order", "bring .. back", "register .. for .. return", "pick .. up from you", "return label",
    ),
    "transfer": (
        "shift|move|switch .. over to .. account", "shift|move|switch .. to .. account", "now in .. name",
        "in .. name now", "transfer", "move .. points|balance|ownership|miles|contract .. to", "move ..  to account",
        "put .. name of|into", "into .. name of", "sign .. over", "reassign", "hand .. over to", "name .. in .. name",
        "stand in .. name of", "put .. in .. name", "pass .. on to", "change .. name|holder|owner|ownership",
        "make .. over to", "move|moves .. over to", "assign .. to", "switch .. into .. name",
        "give .. ticket|tickets to",
    ),
    "redirect": (
        "hold at", "go|goes to .. shop|locker|depot|neighbor|neighbour|branch", "redirect", "reroute", "divert",
        "redirection", "leave .. with|neighbor|neighbour|locker|depot|safe|porch|reception", "have .. left with",
        "send .. instead", "deliver .. instead", "forward .. parcel|consignment|package|letter|mail",
        "send|deliver|bring|drop .. to .. locker|depot|shop|neighbor|neighbour|branch|store|office", "re route",
        "hold .. at .. depot|branch|locker|shop", "go to .. instead",
        "switch .. to .. locker|collection|pickup|depot|branch", "reroute .. to", "left with .. neighbor|neighbour",
        "re direct", "point .. to .. locker|depot",
    ),
    "change_address": (
        f"{_CHANGE} .. address|house|street|postcode|location", "new address|home", "address .. to",
        "change|update where", "where : ", "deliver .. to .. road|street|avenue|lane|drive|close instead",
        "move .. to .. road|street|avenue|lane", "ship|send|deliver .. to .. road|street|avenue|lane|drive|new address",
        "address change", "change of address",
    ),
    "change_contact": (
        f"{_CHANGE} .. {_CONTACT}", f"new {_CONTACT}", f"{_CONTACT} .. {_CHANGE} .. to",
        "send .. updates|notifications to", "update .. email|phone", "change .. surname",
        f"{_CHANGE} .. billing address to @", "contact .. instead", "email to @", "reach .. on|at",
    ),
    "change_payment": (
        f"{_CHANGE}|use|add|store .. {_MEANS}", "new card|iban|bank", f"switch .. to .. {_MEANS}|invoice|transfer",
        f"{_CHANGE} .. payment method", f"pay by|with .. {_MEANS} from", "collect by .. order|debit|card",
        "card .. saved", "set .. as .. payment", "take .. payments|future .. from", "default card|payment",
        "standing order .. set", f"payment|payments .. to {_MEANS}|invoice", f"payment|payments for .. to {_MEANS}",
        "payment|payments .. come|comes off|from",
    ),
    "change_quantity": (
        "bump .. order up", "# → #", "pieces : # → #",
        f"{_CHANGE}|increase|reduce|raise|lower|bring|take .. quantity|qty|nights|guests|people|copies"
        f"|count|party|headcount|places|covers|portions|seats|licences|bottles|pieces|units",
        f"{_CHANGE}|increase|reduce|raise|lower number of", "increase",
        "reduce", "raise .. to|from", "lower .. to|from", "qty|quantity", "make it #", "change to #",
        f"{_NUMBER} .. instead of {_NUMBER}", f"{_NUMBER} .. rather than {_NUMBER}",
        f"{_NUMBER} .. and not {_NUMBER}",
        f"{_CHANGE}|go .. from # .. to #", "up .. from # .. to #", "# instead of #", "cut .. to #", "double", "halve",
        "reduction", "change .. to #", "bump .. to #", "drop .. from # .. to #", "go from # .. to #",
    ),
    "correct": (
        "correct", "fix", "correction", "rectify", "put right", "put .. right",
        "amend .. name|spelling|typo|surname|reading|entry",
        f"{_CHANGE} .. birthday|birth|entry|reading .. from .. to",
        f"{_CHANGE} .. name|spelling|typo|mistake|surname|initial",
        "make correct", "house number from", "spelling", "sort .. typo|spelling", "name .. spelt|spelled",
    ),
    "pause": (
        "pause", "freeze", "suspend", "put .. on hold", "suspension", "put .. on ice", "halt",
        "hold .. plan|membership", "on hold", "take .. break", "stop .. for .. week|weeks|month|months",
    ),
    "resume": (
        "back on", "resume", "reactivate", "restart", "reinstate", "unfreeze", "unpause", "start .. again", "activate",
        "restore", "switch .. back on", "turn .. back on", "pick .. up again", "run again", "running again", "reopen",
        "lift .. pause|freeze|hold", "get .. going|running again", "bring .. back", "take .. off hold",
        "end .. pause|freeze", "unlock", "re activate", "kick .. off again", "re start",
    ),
    "book": (
        "book", "schedule", "reserve", "sign .. up", "put .. down for", "enroll", "enrol", "register .. for",
        "get .. in on", "get .. in for|with|at", "slot .. in", "pencil .. in", "appoint", "arrange",
        "make .. reservation|appointment|booking", "set up .. appointment|visit|call|meeting|lesson", "reservation",
        "put .. in for|on|at|with", "put you in", "put .. in .. course|class|group|lesson", "fit .. in",
        "squeeze .. in", "lock .. in", "book .. in",
        "start .. on .. monday|tuesday|wednesday|thursday|friday", "give .. slot|place|appointment|table",
        "put .. down", "place .. in .. class|course", "confirm .2 appointment|slot" "|booking|place|visit",
        "secure .. place|slot|spot", "add .. to .. class|course|list|waitlist", "save .. a place|spot", "inscribe",
        "get .. booked", "trial .. on", "lesson .. on", "pop .. in .. diary|calendar", "put .. in .. diary|calendar",
    ),
    "reserve": (
        "on reserve", "put .. on hold for you", "place .. on reserve|hold", "put .. on hold .. at", "reserve", "hold",
        "put .. aside", "set .. aside", "hold .. for", "keep .. for you", "set aside", "put aside", "reservation",
        "book", "block .. for", "keep .. aside", "save .. for you", "earmark", "room .. at", "put .. by",
    ),
    "close_account": (
        "close", "close .. account|profile|membership", "shut .. down", "shut down", "delete .. account|profile|data",
        "account .. closed", "closure", "deactivate", "close down", "erase .. account|profile", "wind .. up",
        "deactivate .. account", "shut .. account", "cancel .. account", "terminate .. account",
        "remove .. account|profile", "get rid of .. account",
    ),
    "waive_fee": (
        "waive", f"drop|remove|scrap|cancel|lift|cut|delete|forget|skip|strike|wipe|write|knock|forgive|take .. {_FEE}",
        "write off", "write .. off", "let .. off", f"{_FEE} .. waived|gone|dropped|removed|off", "waiver", "¤ =gone",
        f"not charge .. {_FEE}", "forgo", "charges waived", f"take .. {_FEE} off", "wipe .. off|out", "¤ .. gone",
        f"cancel .. reminder|late|overdue .. {_FEE}", "disregard .. fee", f"get rid of .. {_FEE}",
    ),
    "send_document": (
        "send .. card", "issue .. card|pass|ticket", f"{_SEND} .. {_PAPER}", f"{_SEND} over .. {_PAPER}",
        f"have .. {_PAPER} .. {_SEND}", f"{_PAPER} .. {_SEND}", f"get .. {_PAPER} .. to|over",
        f"run .. off .. {_PAPER}", f"share .. {_PAPER}", f"furnish|provide|supply you with .. {_PAPER}",
        f"print .. {_PAPER}", f"{_SEND} .. @", f"reissue .. {_PAPER}",
        "email .. you",
    ),
    "open_claim": (
        "file|open|raise|register|submit|log|make|start|lodge|record|put|create|report .. claim|report"
        "|dispute|complaint" "|case|ticket|damage|incident|investigation|loss", "claim", "dispute", "put in .. claim",
        "report .. damage|loss|theft", "open .. trace",
    ),
    "place_order": (
        "order", "place .. order", "buy", "purchase", "put .. order through", "put through .. order",
    ),
    "deliver": (
        "deliver", "ship", "dispatch", "send", "send out",
    ),
    "block": (
        "block", "lock", "freeze .. card", "disable", "suspend .. card",
    ),
    "reset": ("reset", "reset .. password|pin|code", "issue .. new password|pin|code"),
    "assign": (
        "assign", "allocate", "give .. to", "put .. on .. job|case",
    ),
    "apply_discount": (
        "discount", "apply .. discount|voucher|coupon|code|promotion", "take .. % off", "knock .. off",
    ),
    "change_name": (f"{_CHANGE} .. name|surname",),
    "check_in": ("check .. in", "check in"),
    "notify": ("notify", "set .. reminder|alert", "remind"),
    "repair": (
        "repair", "mend", "fix", "send .. engineer|technician|plumber",
    ),
}  # fmt: skip

# What looks like a verb of a family and is none: the longer match stands above the shorter one.
NEUTRAL = (
    "hold off|back", "double check", "put|place you on hold", "put you .. hold", "credit card", "debit card",
    "return date", "booking|order|claim|return|account|invoice number|reference|form|date|id",
    "change|cancellation|refund|return|booking policy|policies|fee|fees|deadline|period|window|terms|rules"
    "|option|options", "no .. charge|charges|fee|cost", "free of charge", "extra charge|cost",
    "delivery|shipping|billing address", "in charge", "without .. charge", "transfer you|chat|call", "pass you",
    "put you through", "forward .. you to", "move forward", "move on", "bank transfer", "direct debit",
    "in order to|that", "for free", "return policy", "correct ?", "be correct", "that correct", "is correct",
    "book number", "order confirmation", "hold on", "hold the line", "please hold", "return to you", "get back to you",
    "come back to you", "in credit", "renewal date", "order : ", "booking : ", "claim : ", "hire : ", "for : return",
    "not charged", "change my|your mind", "extended guarantee", "extended warranty", "charge|fee apply", "sign up fee",
    "delivery date|time|slot|option", "card ending", "in return", "put on hold please",
    "hold .. moment|minute|second|please", "add to that", "send .. a code", "once .. submit", "drop in", "drop by",
    "move house", "moving house|home", "take care", "booking confirmation", "order status", "unless", "not only",
    "if not", "or not", "not yet", "why not", "not sure", "not to worry", "refund|claim request",
    "make|apply .. change|changes|update|updates", "do the|this|these|that|those|your change|changes|update|updates",
    "=the change", "=this change", "=these changes", "=your change", "saved card", "open today|until|from|at",
    "good return", "proposed|requested|following|planned|suggested change|changes|update|action", "change|changes :",
    "that|it|this|things|them =moving|=going|=rolling", "next step|steps|action",
)  # fmt: skip

# Writes which can't be meant together.
OPPOSITES = ({"upgrade", "downgrade"}, {"pause", "resume"}, {"cancel", "renew"})
