"""How people ask for common facts, by the fact's name. Patterns as in envs/hearing/patterns.py.

NOUNS: noun phrases, which ask for the fact when they stand in a request ("could I take your ..."). QUESTIONS: wordings
which are a question for the fact by themselves ("how many of you"). CHOICES: what the fact may be, so that "card or
cash?" asks for it. ALIASES: other names for the same fact.
"""

NOUNS: dict[str, tuple[str, ...]] = {
    "email": (
        "email address", "email", "mail address", "inbox", "mail", "emails",
    ),
    "phone": (
        "phone number", "telephone number", "mobile number", "contact number", "phone", "telephone", "mobile",
        "cell number", "cell", "daytime number", "landline", "number .. call|reach|ring|contact|text|get|catch",
        "best number",
        "callback number", "number in case", "a number for you", "whatsapp",
    ),
    "postcode": (
        "postcode", "post code", "postal code", "zip code", "area code",
    ),
    "full_name": (
        "full name", "name and surname", "first and last name", "name and family name", "complete name", "your name",
        "name in full", "legal name", "name on .. account|booking|order|policy|file", "name .. under", "name",
        "account holder", "patient name", "names",
    ),
    "first_name": (
        "first name", "given name", "forename", "christian name",
    ),
    "last_name": (
        "last name", "surname", "family name", "second name", "name .. under", "name .. booked|reserved",
    ),
    "company_name": (
        "company name", "name of .. company|firm|business|organization", "business name", "registered name", "firm",
        "trading name", "company", "employer", "organization",
    ),
    "recipient_name": (
        "recipient", "recipient name", "name of .. recipient|person receiving", "addressee",
        "name on .. parcel|package|card", "who .. for", "receiver", "lucky person",
    ),
    "pet_name": (
        "pet name", "name of .. pet|dog|cat|animal|rabbit|horse", "dog name", "cat name", "furry friend|one .. called",
        "animal name", "which pet|dog|cat|animal", "name .. pet|dog|cat|puppy|kitten",
    ),
    "date_of_birth": (
        "date of birth", "birth date", "birthday", "birthdate", "birth day", "year of birth", "day .. born", "born",
    ),
    "last_four": (
        "last four", "last 4", "last four digits", "last 4 digits", "four last digits", "final four digits",
        "last digits", "ending digits", "card ending", "4 digits", "four digits", "card .. end in", "digits .. card",
        "last numbers .. card", "card number", "end of .. card",
    ),
    "order_number": (
        "order number", "order reference", "order id", "number of .. order", "order code", "purchase number",
        "order no", "reference of .. order", "order confirmation number", "which order", "order",
    ),
    "booking_number": (
        "booking number", "booking reference", "booking id", "reservation number", "reservation code",
        "reservation reference", "confirmation number", "confirmation code", "number of .. booking|reservation",
        "booking code", "reference number", "reference", "which booking|reservation", "booking no",
        "reference .. booking|reservation",
    ),
    "invoice_number": (
        "invoice number", "invoice reference", "number of .. invoice|bill", "bill number", "which invoice|bill",
        "invoice id", "invoice no", "number on .. invoice|bill",
    ),
    "policy_number": (
        "policy number", "policy reference", "number of .. policy", "policy id", "which policy", "insurance number",
        "contract number", "policy no", "number on .. policy|schedule",
    ),
    "customer_number": (
        "customer number", "account number", "client number", "membership number", "member number", "customer id",
        "account id", "member id", "customer reference", "account reference",
        "number of .. customer|client|member|account", "card number of member", "library card number", "client id",
        "patient number", "student number", "customer code",
    ),
    "tracking_number": (
        "tracking number", "tracking code", "tracking id", "consignment number", "parcel number", "shipment number",
        "waybill", "tracking reference", "number of .. parcel|shipment|package|tracking", "tracking", "package number",
    ),
    "serial_number": (
        "serial number", "serial", "serial no", "sn", "number of .. series|serial", "model number",
        "number on .. sticker|back", "s n", "serial code",
    ),
    "unit_number": (
        "unit number", "number of .. unit|locker|room|flat", "which .. unit|units|locker", "locker number",
        "room number", "flat number", "unit", "door number", "number on .. door", "pitch number", "storage number",
        "apartment number",
    ),
    "new_date": (
        "new date", "date", "day", "preferred date", "preferred day", "which day", "what day", "days", "dates",
        "other day", "alternative date", "delivery date", "appointment date", "day of the week",
    ),
    "new_time": (
        "new time", "time", "what time", "which time", "time of day", "hour", "slot", "time slot", "preferred time",
        "delivery time", "times",
    ),
    "start_date": (
        "start date", "start day", "starting date", "begin date", "first day", "beginning date", "from date",
        "date of start", "from when", "from which date|day", "start", "check in date", "arrival date",
        "first and last day", "moving in date", "day .. start|begin|commence", "date .. start|begin|commence",
        "day|date .. from $",
    ),
    "end_date": (
        "end date", "end day", "last day", "finish date", "until when", "till when", "finishing date", "return date",
        "up to when", "date .. end|finish|stop", "check out date", "departure date", "to date", "first and last day",
        "until which|what day|date", "day .. end|finish|back", "date .. back|return|stop", "final day",
    ),
    "purchase_date": (
        "purchase date", "date of purchase", "date of .. purchase", "date .. bought|purchased|buy|purchase|bill",
        "which|what date|day .. bought|purchased|buy|purchase", "on which|what date|day .. bought|purchased|purchase",
        "day .. bought|purchased", "day of purchase", "buying date", "when .. bought|purchased|buy|purchase",
    ),
    "new_address": (
        "new address", "delivery address", "address", "other address", "street", "full address", "street address",
        "shipping address", "new street", "destination", "house number", "address in full", "new home",
    ),
    "current_address": (
        "current address", "present address", "old address", "existing address",
        "address .. have|hold|on .. file|record", "address .. on .. account", "first line of .. address",
        "registered address", "home address", "billing address", "line of .. address",
        "address .. currently|registered", "address", "previous address", "address .. right now",
    ),
    "payment_method": (
        "payment method", "method of payment", "way to pay", "means of payment", "payment option", "form of payment",
        "how .. pay", "which card", "payment type", "pay .. card|cash", "mode of payment",
    ),
    "refund_destination": (
        "refund destination", "where .. refund|money", "which|what account .. refund|money|return|deposit|pay|paid",
        "account .. refund|money|deposit|paid|pay|reimburse|return", "bank details", "account details", "iban",
        "refund method", "bank account", "account .. should be", "card .. refund|money back", "refund to", "sort code",
        "how .. refund|money back|reimburse",
    ),
    "reason": (
        "reason", "reasons", "grounds", "cause", "motive", "explanation", "what is behind", "motivation",
    ),
    "problem": (
        "problem", "issue", "fault", "symptom", "symptoms", "defect", "nature of", "what is wrong", "error message",
        "trouble", "damage", "complaint", "what happens", "what happened",
    ),
    "quantity": (
        "quantity", "how many", "number of", "amount of pieces", "count", "how much pieces", "quantities",
        "total number of",
    ),
    "party_size": (
        "party size", "number of people|guests|persons|covers|diners", "group size", "headcount", "head count",
        "size of .. party|group", "how many people|guests|persons|diners|of you|adults|heads|will you be|are you",
        "how many are", "how many .. come|coming|expect|attend|be", "guest count", "numbers for",
    ),
    "amount": (
        "amount", "sum", "exact sum", "how much", "figure", "price", "value", "total", "how much money", "budget",
    ),
    "duration": (
        "duration", "how long", "length of time", "how many days|nights|weeks|months|hours|years", "length", "period",
        "number of days|nights|weeks|months|hours", "for how long", "how much time",
    ),
    "size": (
        "size", "what size", "which size", "measurements", "dimensions", "sizing",
    ),
    "colour": ("color", "shade", "paint"),
    "plan": (
        "plan", "which plan", "membership", "tier", "tariff", "package", "subscription", "cover", "level of cover",
        "tiers", "membership type", "type|kind of membership|plan|cover|ticket",
    ),
    "service_type": (
        "service type", "type|kind|sort of service|appointment|treatment|lesson|visit|work|repair|class|session",
        "which service|treatment|appointment type", "service", "treatment", "what .. =done",
    ),
    "staff_member": (
        "stylist", "staff member", "member of staff", "doctor", "dentist", "teacher", "instructor", "tutor",
        "therapist", "trainer", "which doctor|teacher|therapist|stylist|vet", "who .. see|with|prefer", "hygienist",
        "barber", "hairdresser", "practitioner", "vet", "coach", "technician", "mechanic", "particular person",
        "colleague", "whom .. see",
    ),
    "branch": (
        "branch", "location", "which shop|store|office|site|studio|depot|club|gym|place|clinic", "shop", "store",
        "site", "studio", "depot", "outlet", "venue", "nearest branch|shop|store", "club", "clinic",
    ),
    "delivery_option": (
        "delivery option", "delivery method", "how .. delivered|deliver|get .. prints|receive|send|sent|ship|shipped",
        "shipping option|method", "way of delivery", "mode of delivery", "delivery type", "type of delivery",
    ),
    "preferred_contact": (
        "preferred contact", "contact method", "how .. contact you|reach you|hear from|get in touch",
        "best way to reach|contact", "preferred way", "way .. contact|reach|in touch|hear", "means of contact",
        "contact preference",
    ),
    "photo": (
        "photo", "picture", "image", "photograph", "pic", "snap", "photos", "snapshot", "screenshot",
    ),
    "card_message": (
        "card message", "message .. card", "message", "wording", "text .. card", "card .. say|read",
        "greeting", "inscription", "dedication", "note .. card",
    ),
    "dietary": (
        "dietary", "dietary requirements", "allergies", "allergy", "dietary needs", "intolerances", "diet",
        "food allergies", "allergic", "vegetarian", "vegan", "not eat", "gluten", "intolerant", "can not eat",
        "dietary restrictions",
    ),
    "meter_reading": (
        "meter reading", "reading", "meter", "mileage", "odometer", "miles on .. clock", "kilometers", "counter",
        "figure on", "number on .. meter", "meter number show", "digits .. meter",
    ),
    "vehicle": (
        "vehicle", "number plate", "license plate", "licence plate", "registration", "registration number",
        "make and model", "reg", "which car|van|vehicle|bike", "which .. cars", "car", "plate", "plate number", "model",
        "reg number",
    ),
    "vehicle_type": (
        "vehicle type", "type|kind|sort|class|category|size of vehicle|car|van|bike", "which vehicle|car",
        "vehicle class", "what .. vehicle|car", "car class|type|size", "what .. drive",
    ),
    "seat": (
        "seat", "seats", "seating", "row", "preference .. sit", "where .. sit|hall|seated", "seating preference",
        "seat number", "part of the hall|stadium|theatre", "place .. sit",
    ),
    "instrument": ("instrument", "what .. play|learn", "which instrument"),
    "level": (
        "level", "how good", "how .. your", "experience", "standard", "how advanced", "ability", "grade", "proficiency",
        "how long .. been learning|playing",
    ),
    "security_word": (
        "security word", "password", "pass phrase", "passphrase", "security answer", "secret word", "code word",
        "memorable word", "pin", "security code", "pass code", "passcode", "secret answer", "keyword", "password hint",
        "safe word", "telephone password",
    ),
    "which_item": (
        "which .. item|items|product|article|article|piece|part|parts", "which one", "which ones", "item", "product",
        "what .. leave out|return|remove|replace|exchange|swap|send back|missing|damaged|broken",
        "which of .. arrive|damage|faulty", "which of them|these|those", "item number", "article",
        "which .. broken|damaged|faulty|wrong|missing", "name of .. item|product|article",
    ),
}  # fmt: skip

QUESTIONS: dict[str, tuple[str, ...]] = {
    "new_date": (
        "when is|would|will|should|shall|do|can|could|are|suit|works|work|suits|to|best|exactly|for", "to when",
        "for when", "when .. suit|suits|works|prefer|like|free|available|move|come", "when ?", "on which|what date|day",
        "when $",
    ),
    "new_time": (
        "what time", "at what time|hour", "which time", "which hour", "morning or afternoon", "when .. in .. day",
    ),
    "new_address": (
        "where should|shall|do|would|can|will|are|is|to", "where to",
        "where .. send|deliver|ship|go|bring|live|moved|moving", "to where", "which address",
        "where .. like|want .. sent|delivered", "what address",
    ),
    "current_address": ("where .. live now|currently", "where .. currently live", "where do you live"),
    "reason": (
        "what .. prompted|led|caused|motivated", "what .. behind", "why", "how come", "what made|makes you",
        "what is .. reason", "what =brought|prompted|led|caused", "what for", "for what reason",
        "on what grounds", "out of curiosity", "any particular|special|specific reason", "may i ask why",
        "what is behind", "what .. not happy|satisfied|like", "what changed",
    ),
    "problem": (
        "what is|seems|was .. wrong", "what is|seems|seem|appears .. problem|issue|matter|trouble|fault",
        "what is it doing", "what .. happen|happened|happens|happening", "what .. go|gone|goes|going|went wrong",
        "what is|was .. up|broken|broke", "what is .. not .. working|work", "what exactly .. do|doing|happening|broken",
        "describe .. happened|problem", "what .. error", "what .. does .. not",
        "how .. damaged|broken|break|does .. fail", "what .. is .. doing", "what .. noise|sound",
        "what .. see .. screen", "where .. hurt", "what have you noticed",
    ),
    "quantity": ("how many", "how much .. want|need|like|would", "how many ?"),
    "party_size": (
        "how many of you", "how many .. people|guests|persons|heads|adults", "how many are you|coming|we",
        "how many .. coming|expect|attending|you be", "for how many people|persons", "how big .. party|group",
        "how many will|would .. be", "table for how many",
    ),
    "amount": (
        "how much", "how much .. like|want|wish .. pay|put|spend", "how much .. pay|paid|cost", "for how much",
        "how much money", "what .. cost you", "what .. you paid|pay",
    ),
    "duration": (
        "how long", "for how long", "how many days|nights|weeks|months|hours|years", "how much longer", "how much time",
        "until when", "how much .. weeks|days|months",
        "how many days|nights|weeks|months|hours|years .. be|do|would|will",
    ),
    "full_name": (
        "who am|are|do|is i|we|this|have", "whom am|have|do", "to whom", "who is speaking|calling|this|it",
        "how .. call you", "with whom", "who have i", "your name", "what is|are .. you called",
        "who .. speaking|talking", "whose name",
    ),
    "last_name": (
        "name .. under", "under which|what name|surname", "whose name", "what name",
    ),
    "first_name": ("what should|may|can|do .. call you", "how should .. call|address you"),
    "pet_name": (
        "who is|are .. patient|pet|furry", "what is .. pet|dog|cat|furry|friend|he|she .. called",
        "which dog|cat|pet|animal|rabbit", "who are we talking about", "who .. see|seeing|treating|bringing in",
    ),
    "recipient_name": (
        "who is .. for|receiving|recipient", "who .. for", "for whom", "who .. addressed|receive|get",
        "who should|shall|will .. address|receive|get|made|sign", "who|whom should|shall|will|do .. to $",
        "who|whom .. delivered|sent|deliver|send|going to", "to whom should|shall .. deliver|send",
    ),
    "company_name": ("which|what company|firm|business|organization", "what is .. company|firm|business called"),
    "date_of_birth": (
        "when were|was|are|is .. born", "what day .. born", "when .. born", "when is .. birthday", "how old",
    ),
    "purchase_date": (
        "when did .. buy|get|purchase|order|pick|receive", "when was .. bought|purchased|sold|delivered",
        "when you bought|buy", "since when .. have", "how long .. had|have it", "how old is .. it",
        "when .. bought|purchased|buy|purchase",
    ),
    "start_date": (
        "when .. start|begin|starting|beginning|collect|arrive|pick", "from when", "from what|which day|date",
        "since when", "when .. like .. to start|begin", "when .. kick|commence", "between which|what dates|days",
    ),
    "end_date": (
        "when .. end|finish|return|stop|bring|leave|back", "until when", "till when", "until what|which day|date",
        "how long until", "to when", "between which|what dates|days",
    ),
    "payment_method": (
        "how .. pay|paying|settle|paid", "how .. like .. pay", "which|what card", "what .. pay with",
        "how .. like .. charged", "how .. payment",
    ),
    "last_four": ("which card .. last", "what .. card end", "which card was|is it"),
    "refund_destination": (
        "where .. refund|money|reimburse|deposit .. go|sent|paid|back",
        "how .. like .. refund|money|refunded|reimbursed", "into|to which|what account", "where .. refund|money",
        "which|what account|card .. refund|money|return|go", "where .. want|like .. money|refund",
        "where should .. pay|return|refund|send the money", "back to .. card",
    ),
    "size": ("how big|large|tall|wide|heavy", "what size", "which size"),
    "colour": ("which|what color", "in which|what color|shade"),
    "plan": (
        "which|what membership|plan|tier|package|tariff|cover|subscription",
        "which of .. plans|tiers|packages|memberships",
    ),
    "service_type": (
        "what kind|type|sort of appointment|service|treatment|lesson|visit|class|work|repair|session",
        "what .. having =done", "what are you booking|coming in|after", "what .. need .. doing|=done",
        "what is .. appointment for", "which service",
    ),
    "staff_member": (
        "who .. see|with|prefer|like|usually|cut|teach|treat", "with whom", "do you .. see dr|doctor",
        "which dr|doctor|teacher|tutor", "whom .. see|prefer|like", "anyone in particular",
        "anyone .. like|prefer|free", "is there .. stylist|doctor|teacher",
        "any preference for .. stylist|doctor|teacher|person|who",
    ),
    "branch": (
        "which|what branch|shop|store|office|location|site|studio|depot|club|gym|clinic|town",
        "where .. collect|pick|visit|come", "which of .. branches|shops|stores|studios|sites|locations",
        "at which|what branch|shop|store|location", "where .. based|nearest", "where .. train",
    ),
    "delivery_option": (
        "leave .. door|neighbor|neighbour|porch", "how .. get .. prints|order|parcel|it|them|goods",
        "how .. deliver|delivered|receive|sent|send|ship|shipped|collect", "where .. leave|left",
        "whether .. delivered",
    ),
    "preferred_contact": (
        "how .. contact|reach|hear|touch|notify|update|tell", "how .. let .. know", "by phone|text|email or",
        "best way .. reach|contact|touch", "what is .. best way .. contact|reach|touch", "hear from .. by",
    ),
    "card_message": (
        "what should|shall|would|will it|they say", "what .. on the card|tag|note",
        "what .. card|message .. say|read|write", "what .. like .. write|say|put .. card",
        "what should .. write|put .. card|tag", "what .. write", "what .. words",
    ),
    "dietary": (
        "anyone|anybody have .. allergies|allergy|dietary", "anyone .. allergic|allergies|vegetarian|vegan|allergy",
        "any .. allergies|dietary|allergy",
        "is|are .. allergic", "anything .. not eat|avoid", "whether .. allergies|dietary",
        "anything .. can not|not eat", "any food",
    ),
    "meter_reading": ("what .. meter|odometer|counter|clock .. say|show|read|stand", "how many miles|kilometers",
                      "what .. show .. meter|dash"),
    "vehicle": (
        "which of .. cars|vehicles|vans|bikes", "which|what car|vehicle", "what .. driving|drive", "which .. driving",
        "what .. car .. it", "what is .. plate|registration|reg", "make and model",
    ),
    "vehicle_type": (
        "what kind|type|sort|class|size of car|vehicle|van", "which class|category", "how big .. car|van",
        "what .. like .. drive|rent", "van or car", "car or van", "automatic or manual", "manual or automatic",
    ),
    "seat": (
        "where .. sit|seated|seat", "which|what row|seat|seats|block", "which part of", "aisle or window",
        "stalls or circle", "preference .. where",
    ),
    "instrument": (
        "which|what instrument", "what .. learn .. play", "what .. play", "what .. instrument",
    ),
    "level": (
        "what level", "which level|grade", "how good|advanced|experienced|fluent", "are you .. beginner", "beginner or",
        "how is .. english|french|german|spanish|italian|dutch", "how well",
        "have you .. played|learned|studied|before", "total beginner", "complete beginner",
        "how long .. been|have .. playing|learning|studying",
    ),
    "security_word": ("what is .. secret|password|security|memorable", "which password|word"),
    "which_item": (
        "which|what article|articles", "which one|ones .. arrive|damage|broken|faulty|return|wrong|missing",
        "which of the .. items|products|things|pieces", "what exactly .. leave|return|exchange|remove|cancel|swap|take",
        "which item|items|product|products|piece|pieces|part",
        "what .. like .. return|remove|exchange|take|leave|swap|drop", "which .. arrive|arrived", "which one .. about",
        "what .. from .. order", "which of them|these|those",
    ),
    "photo": ("any chance of .. photo|picture", "what .. look like"),
    "order_number": ("which order", "what order"),
    "booking_number": ("which booking|reservation",),
    "invoice_number": ("which invoice|bill",),
    "policy_number": ("which policy",),
    "unit_number": ("which .. units|unit|locker|room", "which locker"),
}  # fmt: skip

CHOICES: dict[str, tuple[str, ...]] = {
    "payment_method": (
        "card", "cash", "direct debit", "bank transfer", "paypal", "standing order", "invoice", "apple pay",
        "credit card", "debit card", "voucher",
    ),
    "preferred_contact": (
        "phone", "text", "email", "call", "sms", "whatsapp", "ring", "letter", "phone call",
    ),
    "delivery_option": (
        "post", "collection", "courier", "collect", "pickup", "delivery", "neighbor", "neighbour", "door", "locker",
        "depot", "deliver", "pick up", "express", "standard", "safe place",
    ),
    "vehicle_type": (
        "van", "car", "estate", "suv", "automatic", "manual", "minibus", "truck", "hatchback", "saloon", "electric",
    ),
    "service_type": (
        "full service", "brakes", "gears", "check up", "cut", "trim", "cleaning", "wash", "color", "service", "mot",
        "repair", "inspection", "consultation", "massage", "filling", "hygienist",
    ),
    "seat": (
        "aisle", "window", "stalls", "circle", "front", "back", "balcony", "middle", "table",
    ),
    "new_time": (
        "morning", "afternoon", "evening", "am", "pm", "lunchtime", "midday",
    ),
    "level": (
        "beginner", "intermediate", "advanced", "beginners",
    ),
    "size": (
        "small", "medium", "large", "s", "m", "l", "xl",
    ),
    "refund_destination": (
        "same card", "original card", "store credit", "original payment",
    ),
    "instrument": (
        "piano", "guitar", "violin", "cello", "drums", "flute",
    ),
    "staff_member": ("dr",),
}  # fmt: skip

# a name above: other names of the same fact
_ALIASES = {
    "colour": "color",
    "full_name": "name customer_name",
    "last_name": "surname",
    "email": "email_address",
    "phone": "phone_number mobile telephone contact_number",
    "postcode": "zip zip_code postal_code",
    "date_of_birth": "dob birth_date birthday",
    "order_number": "order_id order",
    "booking_number": "booking_id booking_reference reservation_number reservation_id",
    "invoice_number": "invoice_id",
    "policy_number": "policy_id",
    "customer_number": "account_number account_id customer_id member_number membership_number member_id",
    "tracking_number": "tracking_id",
    "serial_number": "serial",
    "new_date": "date day preferred_date",
    "new_time": "time preferred_time slot",
    "new_address": "address delivery_address shipping_address destination",
    "current_address": "old_address billing_address",
    "payment_method": "payment card",
    "last_four": "card_last_four last4 card_ending last_four_digits",
    "refund_destination": "refund_method",
    "reason": "cancellation_reason cause",
    "problem": "issue fault symptom",
    "quantity": "count number_of_items",
    "party_size": "guests number_of_guests people",
    "duration": "length nights weeks",
    "plan": "membership tier package tariff",
    "service_type": "service",
    "staff_member": "therapist doctor stylist teacher",
    "branch": "location shop store",
    "delivery_option": "delivery_method",
    "preferred_contact": "contact_method",
    "photo": "picture",
    "card_message": "message gift_message",
    "dietary": "allergies",
    "meter_reading": "reading mileage",
    "vehicle": "plate license_plate registration car",
    "security_word": "password pin passphrase",
    "which_item": "item product",
    "recipient_name": "recipient",
    "company_name": "company",
    "pet_name": "pet",
    "start_date": "start from_date",
    "end_date": "end until return_date",
    "purchase_date": "date_of_purchase",
    "unit_number": "unit locker room",
}
ALIASES = {other: name for name, others in _ALIASES.items() for other in others.split()}
