//! Codes of countries and of the states and provinces that ad platforms write as codes. Data only; each entry is
//! `code[:alpha-3][:name…]`, names in lower case without spaces and punctuation.

/// ISO 3166-1: alpha-2, alpha-3, English names.
const COUNTRIES: &str = "\
    ad:and:andorra ae:are:unitedarabemirates:uae:emirates af:afg:afghanistan ag:atg:antiguaandbarbuda \
    ai:aia:anguilla al:alb:albania am:arm:armenia ao:ago:angola aq:ata:antarctica ar:arg:argentina \
    as:asm:americansamoa at:aut:austria au:aus:australia aw:abw:aruba ax:ala:ålandislands az:aze:azerbaijan \
    ba:bih:bosniaandherzegovina bb:brb:barbados bd:bgd:bangladesh be:bel:belgium bf:bfa:burkinafaso bg:bgr:bulgaria \
    bh:bhr:bahrain bi:bdi:burundi bj:ben:benin bl:blm:saintbarthélemy bm:bmu:bermuda bn:brn:bruneidarussalam \
    bo:bol:bolivia bq:bes:bonaire br:bra:brazil bs:bhs:bahamas bt:btn:bhutan bv:bvt:bouvetisland bw:bwa:botswana \
    by:blr:belarus bz:blz:belize ca:can:canada cc:cck:cocos cd:cod cf:caf:centralafricanrepublic cg:cog:congo \
    ch:che:switzerland ci:civ:côtedivoire:ivorycoast ck:cok:cookislands cl:chl:chile cm:cmr:cameroon cn:chn:china \
    co:col:colombia cr:cri:costarica cu:cub:cuba cv:cpv:caboverde:capeverde cw:cuw:curaçao cx:cxr:christmasisland \
    cy:cyp:cyprus cz:cze:czechia:czechrepublic de:deu:germany dj:dji:djibouti dk:dnk:denmark dm:dma:dominica \
    do:dom:dominicanrepublic dz:dza:algeria ec:ecu:ecuador ee:est:estonia eg:egy:egypt eh:esh:westernsahara \
    er:eri:eritrea es:esp:spain et:eth:ethiopia fi:fin:finland fj:fji:fiji fk:flk:falklandislands fm:fsm:micronesia \
    fo:fro:faroeislands fr:fra:france ga:gab:gabon gb:gbr:unitedkingdom:greatbritain:england:scotland:wales \
    gd:grd:grenada ge:geo:georgia gf:guf:frenchguiana gg:ggy:guernsey gh:gha:ghana gi:gib:gibraltar gl:grl:greenland \
    gm:gmb:gambia gn:gin:guinea gp:glp:guadeloupe gq:gnq:equatorialguinea gr:grc:greece \
    gs:sgs:southgeorgiaandthesouthsandwichislands gt:gtm:guatemala gu:gum:guam gw:gnb:guineabissau gy:guy:guyana \
    hk:hkg:hongkong hm:hmd:heardislandandmcdonaldislands hn:hnd:honduras hr:hrv:croatia ht:hti:haiti hu:hun:hungary \
    id:idn:indonesia ie:irl:ireland il:isr:israel im:imn:isleofman in:ind:india io:iot:britishindianoceanterritory \
    iq:irq:iraq ir:irn:iran is:isl:iceland it:ita:italy je:jey:jersey jm:jam:jamaica jo:jor:jordan jp:jpn:japan \
    ke:ken:kenya kg:kgz:kyrgyzstan kh:khm:cambodia ki:kir:kiribati km:com:comoros kn:kna:saintkittsandnevis \
    kp:prk:northkorea kr:kor:southkorea kw:kwt:kuwait ky:cym:caymanislands kz:kaz:kazakhstan \
    la:lao:laopeoplesdemocraticrepublic:laos lb:lbn:lebanon lc:lca:saintlucia li:lie:liechtenstein lk:lka:srilanka \
    lr:lbr:liberia ls:lso:lesotho lt:ltu:lithuania lu:lux:luxembourg lv:lva:latvia ly:lby:libya ma:mar:morocco \
    mc:mco:monaco md:mda:moldova me:mne:montenegro mf:maf mg:mdg:madagascar mh:mhl:marshallislands \
    mk:mkd:northmacedonia:macedonia ml:mli:mali mm:mmr:myanmar:burma mn:mng:mongolia mo:mac:macao \
    mp:mnp:northernmarianaislands mq:mtq:martinique mr:mrt:mauritania ms:msr:montserrat mt:mlt:malta \
    mu:mus:mauritius mv:mdv:maldives mw:mwi:malawi mx:mex:mexico my:mys:malaysia mz:moz:mozambique na:nam:namibia \
    nc:ncl:newcaledonia ne:ner:niger nf:nfk:norfolkisland ng:nga:nigeria ni:nic:nicaragua nl:nld:netherlands:holland \
    no:nor:norway np:npl:nepal nr:nru:nauru nu:niu:niue nz:nzl:newzealand om:omn:oman pa:pan:panama pe:per:peru \
    pf:pyf:frenchpolynesia pg:png:papuanewguinea ph:phl:philippines pk:pak:pakistan pl:pol:poland \
    pm:spm:saintpierreandmiquelon pn:pcn:pitcairn pr:pri:puertorico ps:pse:palestine pt:prt:portugal pw:plw:palau \
    py:pry:paraguay qa:qat:qatar re:reu:réunion ro:rou:romania rs:srb:serbia ru:rus:russianfederation:russia \
    rw:rwa:rwanda sa:sau:saudiarabia sb:slb:solomonislands sc:syc:seychelles sd:sdn:sudan se:swe:sweden \
    sg:sgp:singapore sh:shn:sainthelena si:svn:slovenia sj:sjm:svalbardandjanmayen sk:svk:slovakia \
    sl:sle:sierraleone sm:smr:sanmarino sn:sen:senegal so:som:somalia sr:sur:suriname ss:ssd:southsudan \
    st:stp:saotomeandprincipe sv:slv:elsalvador sx:sxm:sintmaarten sy:syr:syrianarabrepublic:syria \
    sz:swz:eswatini:swaziland tc:tca:turksandcaicosislands td:tcd:chad tf:atf:frenchsouthernterritories tg:tgo:togo \
    th:tha:thailand tj:tjk:tajikistan tk:tkl:tokelau tl:tls:timorleste:easttimor tm:tkm:turkmenistan tn:tun:tunisia \
    to:ton:tonga tr:tur:türkiye:turkey tt:tto:trinidadandtobago tv:tuv:tuvalu tw:twn:taiwan tz:tza:tanzania \
    ua:ukr:ukraine ug:uga:uganda um:umi:unitedstatesminoroutlyingislands \
    us:usa:unitedstates:unitedstatesofamerica:america uy:ury:uruguay uz:uzb:uzbekistan va:vat:holysee \
    vc:vct:saintvincentandthegrenadines ve:ven:venezuela vg:vgb vi:vir vn:vnm:vietnam vu:vut:vanuatu \
    wf:wlf:wallisandfutuna ws:wsm:samoa ye:yem:yemen yt:myt:mayotte za:zaf:southafrica zm:zmb:zambia zw:zwe:zimbabwe";

/// ISO 3166-2 of the United States and Canada.
const STATES: &str = "\
    ab:alberta bc:britishcolumbia mb:manitoba nb:newbrunswick nl:newfoundlandandlabrador ns:novascotia \
    nt:northwestterritories nu:nunavut on:ontario pe:princeedwardisland qc:quebec:québec sk:saskatchewan yt:yukon ak:alaska \
    al:alabama ar:arkansas as:americansamoa az:arizona ca:california co:colorado ct:connecticut \
    dc:districtofcolumbia de:delaware fl:florida ga:georgia gu:guam hi:hawaii ia:iowa id:idaho il:illinois \
    in:indiana ks:kansas ky:kentucky la:louisiana ma:massachusetts md:maryland me:maine mi:michigan mn:minnesota \
    mo:missouri mp:northernmarianaislands ms:mississippi mt:montana nc:northcarolina nd:northdakota ne:nebraska \
    nh:newhampshire nj:newjersey nm:newmexico nv:nevada ny:newyork oh:ohio ok:oklahoma or:oregon pa:pennsylvania \
    pr:puertorico ri:rhodeisland sc:southcarolina sd:southdakota tn:tennessee tx:texas \
    um:unitedstatesminoroutlyingislands ut:utah va:virginia vi:virginislands vt:vermont wa:washington wi:wisconsin \
    wv:westvirginia wy:wyoming";

/// The alpha-2 code, in lower case, of a country given as alpha-2, alpha-3 or English name (lower case, letters only).
pub fn country_code(letters: &str) -> Option<&'static str> {
    lookup(COUNTRIES, letters)
}

/// The two-letter code, in lower case, of a state or province given as code or English name (lower case, letters only).
pub fn state_code(letters: &str) -> Option<&'static str> {
    lookup(STATES, letters)
}

fn lookup(table: &'static str, wanted: &str) -> Option<&'static str> {
    table.split_ascii_whitespace().find_map(|entry| {
        let mut words = entry.split(':');
        let code = words.next()?;
        (code == wanted || words.any(|word| word == wanted)).then_some(code)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_found_by_code_and_by_name() {
        for (given, code) in
            [("us", "us"), ("usa", "us"), ("unitedstates", "us"), ("gbr", "gb"), ("germany", "de"), ("zimbabwe", "zw")]
        {
            assert_eq!(country_code(given), Some(code), "{given}");
        }
        for (given, code) in
            [("ca", "ca"), ("california", "ca"), ("newyork", "ny"), ("québec", "qc"), ("ontario", "on")]
        {
            assert_eq!(state_code(given), Some(code), "{given}");
        }
        for unknown in ["", "uk", "zz", "usaa", ":", "us:usa"] {
            assert_eq!(country_code(unknown), None, "{unknown}");
        }
    }

    #[test]
    fn every_code_has_two_letters_and_stands_once() {
        for table in [COUNTRIES, STATES] {
            let mut codes: Vec<&str> =
                table.split_ascii_whitespace().filter_map(|entry| entry.split(':').next()).collect();
            assert!(codes.iter().all(|code| code.len() == 2));
            let all = codes.len();
            codes.sort_unstable();
            codes.dedup();
            assert_eq!(codes.len(), all);
        }
    }
}
